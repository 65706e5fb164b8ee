"""`hongbao lanes`: where each lane is, how far and how busy; and moving lanes within a cluster."""

import dataclasses
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from engine.cli.common import DataDirOption, JsonOption, run, show
from engine.observability import logs
from engine.settings import LANES_MAX, Settings

if TYPE_CHECKING:
    from engine.persisting.lane_lines import LaneLine, Placement, ServerLine
    from engine.recovery.moving import Moved
    from engine.recovery.placing import Placing

SampleOption = Annotated[
    float, typer.Option("--sample-s", min=0.1, max=60, help="How long changes are counted, in seconds.")
]
_SAMPLE_S = 1.0
_UNKNOWN = "-"


app = typer.Typer(help="Where each lane is, how far and how busy. Move one, or spread them.")


@app.callback(invoke_without_command=True)
def lanes(
    context: typer.Context,
    sample_s: SampleOption = _SAMPLE_S,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print each lane's server, position, lag, backlog and load. Exits 1 if a lane does not serve."""
    if context.invoked_subcommand is not None:
        if (sample_s, data_dir, as_json) != (_SAMPLE_S, None, False):
            raise typer.BadParameter(f"write its options after `{context.invoked_subcommand}`: here they do nothing")
        return
    from engine.connected import Connected, urls_of
    from engine.persisting.lane_lines import placement
    from engine.redis_servers import servers_in
    from engine.running import reach

    logs.configure("lanes")

    async def look(settings: Settings) -> "Placement":
        async with Connected.open(settings) as connected:
            called = servers_in(urls_of(settings).redis)[0].place
            return await placement(connected.pool, connected.store, connected.stream, called=called, sample_s=sample_s)

    loaded = Settings.load(data_dir=data_dir)
    reach.check_has_books(loaded)
    with reach.reachable(loaded) as settings:
        found = run(look(settings))
    if as_json:
        show(orjson.dumps({**dataclasses.asdict(found), "imbalance": round(found.imbalance, 3)}).decode())
    elif sys.stdout.isatty():
        _table(found)
    else:
        for line in found.lanes:
            show(f"lane {line.lane:03d}  slot {line.slot}  {line.server}  {_state(line)}")
        for server in found.servers:
            show(_told(server, found))
    if any(line.why_not is not None for line in found.lanes):
        raise typer.Exit(1)


@app.command()
def move(
    lane: Annotated[int, typer.Option("--lane", min=0, max=LANES_MAX - 1, help="Its number.")],
    to: Annotated[str, typer.Option("--to", help="A master: its host and port, or its name in the cluster.")],
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move a lane to another master of its cluster, while it is in use. It is compared with the ledger there."""

    async def work(placing: "Placing") -> "list[Moved]":
        target = await placing.named(to)
        moved = await placing.move(lane, target, _tell(as_json=as_json))
        if not as_json:
            show(f"lane {lane} is on {target.place} already" if moved is None else _moved(moved))
        return [] if moved is None else [moved]

    _move(data_dir, work, as_json=as_json)


@app.command()
def place(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be moved.")] = False,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Spread the lanes evenly over the masters of their cluster, with the fewest moves, one after another."""
    from engine.recovery.placing import even

    async def work(placing: "Placing") -> "list[Moved]":
        found: list[Moved] = []
        held = await placing.held()
        moves = even(held)
        if dry_run and as_json:
            show(orjson.dumps([{"lane": lane, "to": where} for lane, where in moves]).decode())
            return []
        tell = _tell(as_json=as_json)
        if not moves:
            tell("the lanes are spread evenly: " + ", ".join(f"{where} has {len(own)}" for where, own in held.items()))
        for lane, where in moves:
            if dry_run:
                tell(f"lane {lane} would move to {where}")
            elif (moved := await placing.move(lane, await placing.named(where), tell)) is not None:
                tell(_moved(moved))
                found.append(moved)
        return found

    _move(data_dir, work, as_json=as_json and not dry_run)


def _move(data_dir: Path | None, work: "Callable[[Placing], Awaitable[list[Moved]]]", *, as_json: bool) -> None:
    """Exits 1 if a lane that was moved does not serve."""
    from engine.recovery.placing import Placing
    from engine.running import reach

    logs.configure("lanes")

    async def opened(settings: Settings) -> "list[Moved]":
        async with Placing.open(settings) as placing:
            return await work(placing)

    loaded = Settings.load(data_dir=data_dir)
    reach.check_has_books(loaded)
    with reach.reachable(loaded) as settings:
        found = run(opened(settings))
    if as_json:
        show(orjson.dumps([dataclasses.asdict(moved) for moved in found]).decode())
    if not all(moved.serves for moved in found):
        raise typer.Exit(1)


def _tell(*, as_json: bool) -> "Callable[[str], None]":
    return (lambda _line: None) if as_json else show


def _moved(moved: "Moved") -> str:
    if not moved.serves:
        return f"lane {moved.lane} is there, and serves once a persister has compared it: start `hongbao persist`"
    had = f"; {moved.replicas} replica{'' if moved.replicas == 1 else 's'} had it before that"
    return f"lane {moved.lane} serves there; it refused for {moved.refused_s:.2f} s{had}"


def _state(line: "LaneLine") -> str:
    if line.why_not is not None:
        return f"does not serve: {line.why_not}"
    return (
        f"at {line.position:,}, the ledger is {line.behind:,} behind by {_number(line.behind_s)} s, "
        f"backlog {line.backlog:,}, {_number(line.changes_per_second)} changes per second"
    )


def _number(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:,.1f}"


def _told(server: "ServerLine", found: "Placement") -> str:
    part = f"{server.lanes} of {len(found.lanes)} lanes"
    said = f"{server.server}: {part}, {_number(server.changes_per_second)} changes per second"
    return said if len(found.servers) == 1 else f"{said}; the busiest has {found.imbalance:.2f} times the mean"


def _table(found: "Placement") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("lane", "slot"):
        table.add_column(heading, justify="right")
    table.add_column("server", overflow="fold")
    for heading in ("at", "behind", "s", "backlog", "per second"):
        table.add_column(heading, justify="right")
    table.add_column("", overflow="fold")
    for line in found.lanes:
        counts = (_UNKNOWN if value is None else f"{value:,}" for value in (line.position, line.behind))
        backlog = _UNKNOWN if line.backlog is None else f"{line.backlog:,}"
        state = Text("serves", style="green") if line.why_not is None else Text(line.why_not, style="bold red")
        cells = (*counts, _number(line.behind_s), backlog, _number(line.changes_per_second))
        table.add_row(str(line.lane), str(line.slot), Text(line.server), *cells, state)
    console = Console(highlight=False)
    console.print(table)
    for server in found.servers:
        console.print(Text(_told(server, found)))
