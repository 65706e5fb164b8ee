"""What the modules of the command share: options, how work is run, how an answer is printed."""

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
    """Run a coroutine to its end on a loop of its own."""
    return uvloop.run(work)


def show(text: str) -> None:
    """Print a line of the answer."""
    print(text, flush=True)  # noqa: T201
