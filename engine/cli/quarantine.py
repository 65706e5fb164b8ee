"""`hongbao quarantine`: lists and resolves changes that broke a rule of the ledger."""

import dataclasses
import os
import pwd
import re
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from engine.cli.common import DataDirOption, JsonOption, run, show
from engine.errors import OperatorError
from engine.observability import logs
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.persisting.quarantine import Aside, Quarantine, Result
    from engine.persisting.set_aside import EntryAside

_TEXT_LENGTH_MAX = 500
app = typer.Typer(
    help="Changes that broke a rule of the ledger, and entries that stop a lane: list, retry, write off, set aside.",
    no_args_is_help=True,
)
IdsArgument = Annotated[list[int], typer.Argument(metavar="ID...", min=1, help="Rows, as `list` numbers them.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for later readers of the books.")]
ByOption = Annotated[str | None, typer.Option("--by", help="Who decides. Default: this account's name.")]


@app.command(name="list")
def list_rows(
    all_rows: Annotated[bool, typer.Option("--all", help="Also those that are resolved.")] = False,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the pending rows."""

    async def rows(quarantine: "Quarantine") -> "list[Aside]":
        return [row async for row in quarantine.rows(resolved_too=all_rows)]

    found = _with(data_dir, rows)
    if as_json:
        show(orjson.dumps([dataclasses.asdict(row) for row in found]).decode())
    elif not found:
        show("nothing is in quarantine")
    for row in [] if as_json else found:
        show(_line(row))


@app.command()
def retry(ids: IdsArgument, by: ByOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Apply the given changes again, in this order. Exits 1 if one of them still breaks a rule."""

    async def again(quarantine: "Quarantine") -> "list[Result]":
        return [await quarantine.retry(number, by=_who(by)) for number in ids]

    _tell(_with(data_dir, again), as_json)


@app.command(name="write-off")
def write_off(
    ids: IdsArgument,
    reason: ReasonOption,
    by: ByOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give changes up: their money moves from the packet's custody to the quarantine account. Cannot be undone."""
    why = _checked(reason)

    async def give_up(quarantine: "Quarantine") -> "list[Result]":
        return [await quarantine.write_off(number, reason=why, by=_who(by)) for number in ids]

    _tell(_with(data_dir, give_up), as_json)


@app.command(name="set-aside")
def set_aside(
    lane: Annotated[int, typer.Argument(metavar="LANE", min=0, max=999, help="The lane that is stopped.")],
    entry: Annotated[str, typer.Argument(metavar="ENTRY", help="The entry that stops it, as in every message.")],
    *,
    reason: ReasonOption,
    by: ByOption = None,
    force: Annotated[bool, typer.Option("--force", help="Also an event that a newer release could read.")] = False,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move a bad entry from a lane's stream to Postgres, so that the lane goes on. Cannot be undone."""
    why = _checked(reason)
    if not re.fullmatch(r"\d{1,20}(-\d{1,20})?", entry):
        raise OperatorError("An entry is named by a position (7) or an ID (7-0).")
    entry_id = entry if "-" in entry else f"{entry}-0"

    async def put(quarantine: "Quarantine") -> str:
        return await quarantine.set_aside(lane, entry_id, reason=why, by=_who(by), force=force)

    sentence = _with(data_dir, put)
    if as_json:
        show(orjson.dumps({"lane": lane, "entry_id": entry_id, "sentence": sentence}).decode())
    else:
        show(f"ok     lane {lane}, entry {entry_id}: {sentence}")


@app.command()
def entries(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Show the stream entries that were set aside."""

    async def rows(quarantine: "Quarantine") -> "list[EntryAside]":
        return [row async for row in quarantine.entries()]

    found = _with(data_dir, rows)
    if as_json:
        show(orjson.dumps([dataclasses.asdict(row) for row in found]).decode())
    elif not found:
        show("no entry was set aside")
    for row in [] if as_json else found:
        where = f"lane {row.lane}, entry {row.entry_id}, for {row.changes} changes ({row.changes_found} found)"
        done = f"[set aside by {row.set_aside_by}: {row.reason}]"
        show(f"{row.aside_id}  {_at(row.set_aside_at_ms)}  {where}: {row.found} {done}")


def _checked(reason: str) -> str:
    if not 1 <= len(reason.strip()) <= _TEXT_LENGTH_MAX:
        raise OperatorError(f"A reason needs 1 to {_TEXT_LENGTH_MAX} characters.")
    return reason.strip()


def _with(data_dir: Path | None, work: "Callable[[Quarantine], Coroutine[Any, Any, Any]]") -> Any:  # noqa: ANN401
    from engine.connected import urls_of
    from engine.ledger import schema
    from engine.persisting.quarantine import Quarantine
    from engine.running import reach

    logs.configure("quarantine")
    loaded = Settings.load(data_dir=data_dir)
    reach.check_has_books(loaded)

    async def opened(settings: Settings) -> Any:  # noqa: ANN401
        await schema.check(urls_of(settings).database)
        async with Quarantine.open(settings) as quarantine:
            return await work(quarantine)

    with reach.reachable(loaded) as settings:
        return run(opened(settings))


def _tell(results: "list[Result]", as_json: bool) -> None:
    if as_json:
        show(orjson.dumps([dataclasses.asdict(result) for result in results]).decode())
    for result in [] if as_json else results:
        show(f"{'ok    ' if result.resolved else 'FAILED'} {result.quarantine_id}: {_in_a_line(result.sentence)}")
    if not all(result.resolved for result in results):
        raise typer.Exit(1)


def _who(by: str | None) -> str:
    if by is not None and by.strip():
        return by.strip()[:_TEXT_LENGTH_MAX]
    with suppress(KeyError):
        return pwd.getpwuid(os.getuid()).pw_name
    return str(os.getuid())


def _line(row: "Aside") -> str:
    what = {
        "claim": f"{row.user_id} claimed share {row.slot} of {row.amount}",
        "ending": f"it ended with {row.amount} left",
        "opening": "it was opened",
        "unreadable": "some of its changes",
    }[row.kind]
    done = "" if row.resolution is None else f" [{row.resolution.replace('_', ' ')} by {row.resolved_by}]"
    where = f"lane {row.lane}, change {row.position}"
    if row.packet_id is not None:
        where += f", packet {row.packet_id}"
    return f"{row.quarantine_id}  {_at(row.at_ms)}  {where}: {what}: {_in_a_line(row.reason)}{done}"


def _at(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="seconds")


def _in_a_line(text: str) -> str:
    """Postgres reports a broken constraint in two lines."""
    return "; ".join(text.splitlines())
