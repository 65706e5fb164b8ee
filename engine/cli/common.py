"""Code that the command's modules share: options, running work, printing answers."""

from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
import uvloop

from engine.observability import logs
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.connected import Connected

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


def on_ledger(name: str, data_dir: Path | None, work: "Callable[[Connected], Awaitable[Result]]") -> Result:
    """Do a command's work on the servers of the settings, or of a data directory. ``name``: the command's, for the log.

    Raises OperatorError if a server does not answer.
    """
    from engine.connected import Connected
    from engine.running import reach

    logs.configure(name)

    async def connected_work(settings: Settings) -> Result:
        async with Connected.open(settings) as connected:
            return await work(connected)

    loaded = Settings.load(data_dir=data_dir)
    reach.check_has_books(loaded)
    with reach.reachable(loaded) as settings:
        return run(connected_work(settings))
