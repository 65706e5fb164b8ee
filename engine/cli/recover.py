"""`hongbao recover`: rebuilds lanes from the ledger if Redis has lost them or holds an older state."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from engine.cli.common import DataDirOption, JsonOption, run, show
from engine.errors import HongbaoError, OperatorError
from engine.observability import logs
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.recovery.recovery import Recovered

_STATEMENT_S_MAX = 3_600.0


def recover(
    lane: Annotated[list[int] | None, typer.Option("--lane", min=0, help="Only this one; may be repeated.")] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also if the ledger may be wrong instead."),
    ] = False,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rebuild lost lanes from the ledger. Exits 1 if a lane is still fenced afterwards."""
    from engine.engine import Engine
    from engine.recovery.recovery import mend
    from engine.running import reach

    logs.configure("recover")
    loaded = Settings.load(data_dir=data_dir, database_timeout_s=_STATEMENT_S_MAX)
    reach.check_has_books(loaded)
    done: list[Recovered] = []
    failed: list[tuple[int, str]] = []

    async def work(settings: Settings) -> Sequence[int]:
        async with Engine.open(settings) as engine:
            for number in _wanted(lane, engine.lanes):
                try:
                    recovered = await mend(settings, engine.store, engine.stream, number, force=force)
                except HongbaoError as error:
                    failed.append((number, str(error)))
                    continue
                if recovered is not None:
                    done.append(recovered)
            return _wanted(lane, engine.lanes)

    with reach.reachable(loaded) as settings:
        lanes = run(work(settings))
    if as_json:
        told = [{"lane": number, "error": error} for number, error in failed]
        told += [dataclasses.asdict(recovered) for recovered in done]
        show(orjson.dumps(sorted(told, key=lambda one: one["lane"])).decode())
    else:
        _tell(lanes, done, failed)
    if failed:
        raise typer.Exit(1)


def _wanted(asked: list[int] | None, known: Sequence[int]) -> Sequence[int]:
    if asked is None:
        return known
    if unknown := sorted(set(asked) - set(known)):
        raise OperatorError(f"There is no lane {unknown[0]}.")
    return sorted(set(asked))


def _tell(lanes: Sequence[int], done: "Sequence[Recovered]", failed: Sequence[tuple[int, str]]) -> None:
    """Print one line per lane."""
    lines = dict.fromkeys(lanes, "in order")
    lines |= {number: f"not rebuilt: {error}" for number, error in failed}
    for one in done:
        lost = "an unknown number of" if one.changes_lost is None else f"at least {one.changes_lost:,}"
        lines[one.lane] = (
            f"rebuilt in {one.seconds:.1f} s: {one.packets:,} packets, {one.claims:,} claims put back, "
            f"{one.shares_left:,} shares left; {lost} changes in Redis never reached the ledger"
        )
    for number, line in sorted(lines.items()):
        show(f"lane {number:03d}  {line}")
