"""`hongbao reconcile`: one day of Redis, events, ledger, statements and payouts, compared."""

import dataclasses
import sys
import time
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from engine.cli.common import DataDirOption, JsonOption, run, show
from engine.errors import DayNotClosedError, HongbaoError, OperatorError
from engine.observability import logs
from engine.records import FEN_MAX
from engine.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

    from engine.auditing.comparison import Comparison

_RECONCILE_S_MAX = 3_600.0
_WIDTH = 160
"""The width of a table that is not printed to a terminal."""

TextfileOption = Annotated[
    Path | None, typer.Option("--textfile", help="Write the result there as metrics for Prometheus' node exporter.")
]
ProvisionalOption = Annotated[
    bool, typer.Option("--provisional", help="Also compare a day that is not closed. The result may change.")
]
DayOption = Annotated[str | None, typer.Option("--day", help="A day in China, as 2026-11-21. Default: yesterday.")]


def reconcile(
    day: DayOption = None,
    data_dir: DataDirOption = None,
    textfile: TextfileOption = None,
    provisional: ProvisionalOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare a day's Redis, events, ledger, statements and payouts. Changes none of them, and keeps the result.

    Exits 1 if anything differs, and 2 if it could not be compared or the day is not closed (the ledger does not have
    all of it yet). Starts the servers if none are running.
    """
    logs.configure("reconcile")
    try:
        wanted = _day(day)
        if provisional and textfile is not None:
            raise OperatorError("--textfile is for days that are closed: leave out --provisional.")
        comparisons, is_open = _compared(wanted, data_dir, provisional=provisional)
        if textfile is not None:
            _leave(textfile, comparisons)
    except HongbaoError as error:
        print(f"hongbao: {error}", file=sys.stderr)  # noqa: T201
        raise typer.Exit(2) from None
    if as_json:
        records = [record_of(comparison) for comparison in comparisons]
        show(orjson.dumps({"day": wanted.isoformat(), "provisional": is_open, "comparisons": records}).decode())
    else:
        _tell(wanted, comparisons, is_open=is_open)
    if not all(comparison.agrees for comparison in comparisons):
        raise typer.Exit(1)


def _day(text: str | None) -> date:
    from engine.calendar.china_time import today

    if text is None:
        return today() - timedelta(days=1)
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise OperatorError("--day must be a valid date (YYYY-MM-DD).") from None
    if text != day.isoformat() or day.year < 2000:
        raise OperatorError("--day must be a valid date (YYYY-MM-DD).")
    if day > today():
        raise OperatorError(f"{day} has not begun in China.")
    return day


def _compared(day: date, data_dir: Path | None, *, provisional: bool) -> "tuple[list[Comparison], bool]":
    """The comparisons, and whether the day is still open. Raises DayNotClosedError unless ``provisional``."""
    from engine.auditing.comparison import Day
    from engine.auditing.reconciliation import reconcile as run_reconciliation
    from engine.auditing.runs import COMMAND_LINE, Runs
    from engine.connected import Connected
    from engine.ledger.money import now_ms
    from engine.running import reach
    from engine.wallets.closing import Closing
    from engine.wallets.payouts import provider_of

    async def compare(settings: Settings) -> "tuple[list[Comparison], bool]":
        async with Connected.open(settings) as connected:
            is_open = False
            try:
                await Closing(connected.pool, connected.store, connected.stream).check(day)
            except DayNotClosedError:
                if not provisional:
                    raise
                is_open = True
            provider, runs = provider_of(connected.pool, settings), Runs(connected.pool)
            started_at_ms = await now_ms(connected.pool)
            found = await run_reconciliation(connected.pool, connected.store, connected.stream, provider, Day.of(day))
            if await runs.may_keep():
                await runs.keep_reconciliation(
                    day, found, started_at_ms=started_at_ms, by=COMMAND_LINE, is_provisional=is_open
                )
            return found, is_open

    # This reads a whole day, so no statement is too slow.
    loaded = Settings.load(data_dir=data_dir, database_timeout_s=_RECONCILE_S_MAX)
    reach.check_has_books(loaded)
    with reach.reachable(loaded) as settings:
        return run(compare(settings))


def _leave(path: Path, comparisons: "list[Comparison]") -> None:
    from engine.observability import metrics

    differences = {comparison.name: len(comparison.differences) + comparison.more for comparison in comparisons}
    try:
        metrics.write_reconciliation(path, differences, time.time())
    except OSError as error:
        raise OperatorError(f"The metrics cannot be written to {path}: {error.strerror}.") from None


def record_of(comparison: "Comparison") -> dict[str, Any]:
    """A comparison for `--json`."""
    record = dataclasses.asdict(comparison)
    for side in ("left", "right"):
        record[side]["fen"] = _exact(record[side]["fen"])
    return {
        **record,
        "agrees": comparison.agrees,
        "difference_count": comparison.difference_count,
        "difference_fen": _exact(comparison.difference_fen),
    }


def _exact(fen: int | None) -> int | str | None:
    """A sum that every JSON reader keeps exactly: as text if it is too large for a number."""
    return fen if fen is None or abs(fen) <= FEN_MAX else str(fen)


def _tell(day: date, comparisons: "list[Comparison]", *, is_open: bool) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    console.print(_sides(day, comparisons))
    differing = [comparison for comparison in comparisons if not comparison.agrees]
    if differing:
        console.print(_differences(differing))
    else:
        console.print(f"Nothing differs on {day}.", highlight=False)
    if is_open:
        console.print(f"{day} is not closed: this is provisional.", highlight=False)


def _sides(day: date, comparisons: "list[Comparison]") -> "Table":
    table = _table(
        f"{day}, China's day", ("compared", "one side", "other side"), ("how many", "fen", "how many", "fen")
    )
    for heading in ("difference", "in fen"):
        table.add_column(heading, justify="right")
    for comparison in comparisons:
        left, right = comparison.left, comparison.right
        numbers = (left.count, left.fen, right.count, right.fen, comparison.difference_count, comparison.difference_fen)
        style = None if comparison.agrees else "bold red"
        table.add_row(comparison.name, left.what, right.what, *map(_number, numbers), style=style)
    return table


def _differences(differing: "list[Comparison]") -> "Table":
    from rich.text import Text

    table = _table("What differs", ("compared", "difference"), ())
    for comparison in differing:
        for difference in comparison.differences:
            table.add_row(comparison.name, Text(difference))
        if comparison.more:
            table.add_row(comparison.name, f"... and {comparison.more} more")
    return table


def _table(title: str, words: tuple[str, ...], numbers: tuple[str, ...]) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in words:
        table.add_column(heading, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _number(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"
