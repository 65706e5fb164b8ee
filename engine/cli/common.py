"""Code that the command's modules share: options, running work, printing answers."""

from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import uvloop

Result = TypeVar("Result")

DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", help="Where the embedded servers keep their files.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end on a new event loop."""
    return uvloop.run(work)


def show(text: str) -> None:
    """Print one line of the answer."""
    print(text, flush=True)  # noqa: T201
