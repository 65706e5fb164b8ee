"""`hongbao lanes`: where each lane is, how far and how busy."""

import dataclasses
import sys
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from engine.cli.common import DataDirOption, JsonOption, run, show
from engine.observability import logs
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.persisting.lane_lines import LaneLine, Placement, ServerLine

SampleOption = Annotated[
    float, typer.Option("--sample-s", min=0.1, max=60, help="How long changes are counted, in seconds.")
]
_UNKNOWN = "-"


def lanes(sample_s: SampleOption = 1.0, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Print each lane's server, position, lag, backlog and load. Exits 1 if a lane does not serve."""
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
