"""`hongbao plan`: how many cores, servers, bytes and connections a rate of claims needs, by the costs measured."""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import Annotated

import orjson
import typer
from typer.models import OptionInfo

from engine import capacity
from engine.capacity import Demand, Plan
from engine.cli.common import JsonOption, show
from engine.costs import COSTS

_UNITS = ("", "k", "M", "G", "T", "P", "E")
Row = tuple[str, str, str]
"""A part, what of it, and how much."""


def _number(option: str, kind: type[int] | type[float]) -> Callable[[str], int | float]:
    """A parser that says in one sentence what is wrong. 760,000 is a number, too."""

    def parse(text: str) -> int | float:
        try:
            return kind(str(text).replace(",", ""))
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise _refused(f"{option} must be {what}, not {text!r}.") from None

    parse.__name__ = kind.__name__
    return parse


def _option(option: str, kind: type[int] | type[float], text: str) -> OptionInfo:
    found: OptionInfo = typer.Option(option, parser=_number(option, kind), metavar="NUMBER", help=text)
    return found


def _refused(sentence: str) -> typer.Exit:
    typer.echo(f"hongbao: {sentence}", err=True)
    return typer.Exit(2)


ClaimsOption = Annotated[int, _option("--claims-per-second", int, "Shares that are given at the peak.")]
PacketsOption = Annotated[int, _option("--packet-count", int, "Packets that are in Redis at the peak.")]
SharesOption = Annotated[int, _option("--shares-per-packet", int, "Shares in each of them.")]
HandsOption = Annotated[float, _option("--hands-per-share", float, "Claims per share. One of them wins.")]
UtilizationOption = Annotated[
    float, _option("--utilization", float, "How much of what a core carries at most is planned for.")
]
ReplicasOption = Annotated[int, _option("--replicas", int, "Replicas per Redis master.")]
LedgerOption = Annotated[
    int, _option("--ledger-claims-per-second", int, "Claims that your Postgres books. Default: as measured here.")
]
ScatteredOption = Annotated[
    bool, typer.Option("--scattered", help="Claims that arrive together are for different packets.")
]


def plan(
    *,
    claims_per_second: ClaimsOption,
    packet_count: PacketsOption,
    shares_per_packet: SharesOption = 100,
    hands_per_share: HandsOption = 1.0,
    utilization: UtilizationOption = 0.6,
    replicas: ReplicasOption = 1,
    ledger_claims_per_second: LedgerOption = COSTS.ledger_claims_per_second,
    scattered: ScatteredOption = False,
    as_json: JsonOption = False,
) -> None:
    """Estimate cores, servers, memory, disk, network and connections for a peak. Asks no server (docs/scale.md)."""
    try:
        planned = capacity.plan(
            Demand(
                claims_per_second=claims_per_second,
                packet_count=packet_count,
                shares_per_packet=shares_per_packet,
                hands_per_share=hands_per_share,
                utilization=utilization,
                replicas=replicas,
                ledger_claims_per_second=ledger_claims_per_second,
                scattered=scattered,
            )
        )
    except ValueError as error:
        raise _refused(str(error)) from None
    if as_json:
        show(orjson.dumps(dataclasses.asdict(planned)).decode())
    elif sys.stdout.isatty():
        _table(planned)
    else:
        for part, what, value in rows(planned):
            show(f"{part:<12} {what}: {value}")
        for note in planned.notes:
            show(f"{'note':<12} {note}")


def rows(planned: Plan) -> Iterator[Row]:
    """The plan for people, a line per quantity."""
    load, parts, network, backlog = planned.load, planned.parts, planned.network, planned.backlog
    yield "claims", "won per second", f"{load.claims_per_second:,}"
    yield "claims", "lost per second", f"{load.losers_per_second:,}"
    yield "claims", "shares in these packets", f"{load.claims:,}"
    yield "claims", "length of the peak", _seconds(load.peak_s)
    yield "cores", "API, one process each", f"{parts.api_processes:,}"
    yield "cores", "Redis masters, one each", f"{parts.redis_masters:,}"
    yield "cores", "replicas, one each", f"{parts.redis_servers - parts.redis_masters:,}"
    yield "cores", "persister, one process each", f"{parts.persister_processes:,}"
    yield "cores", "Postgres", f"{parts.postgres_cores:,}"
    yield "cores", "together", f"{parts.cores:,}"
    yield "memory", "Redis, all masters", as_size(planned.memory.redis)
    yield "memory", "of it, the backlog at its bound", as_size(planned.memory.redis_backlog)
    yield "memory", "backlog at the end, if no claim is refused", as_size(planned.memory.redis_backlog_unbounded)
    yield "memory", "Redis, each server", as_size(planned.memory.redis_per_server)
    yield "memory", "API processes at rest", as_size(planned.memory.api_at_rest)
    yield "memory", "persister processes at rest", as_size(planned.memory.persister_at_rest)
    yield "disk", "ledger", as_size(planned.disk.ledger)
    yield "disk", "ledger, each new user", as_size(planned.disk.new_wallet)
    yield "disk", "Postgres's log (WAL)", as_size(planned.disk.ledger_log)
    yield "disk", "WAL, each new user", as_size(planned.disk.new_wallet_log)
    yield "disk", "append-only file, each server", as_size(planned.disk.append_only_file_per_server)
    yield "disk writes", "Postgres's log (WAL)", f"{as_size(network.ledger_log)}/s"
    yield "disk writes", "append-only file, each server", f"{as_size(network.append_only_file_per_server)}/s"
    yield "network", "clients to API", _rate(network.clients_to_api)
    yield "network", "API to clients", _rate(network.api_to_clients)
    yield "network", "API and Redis", _rate(network.api_and_redis)
    yield "network", "Redis to replicas", _rate(network.redis_to_replicas)
    yield "network", "persister and Redis", _rate(network.persister_and_redis)
    yield "network", "persister and Postgres", _rate(network.persister_and_postgres)
    yield "connections", "each Redis master, at most", f"{planned.connections.per_redis_master:,}"
    yield "connections", "each of a Redis Cluster, at most", f"{planned.connections.per_cluster_master:,}"
    yield "connections", "all Redis masters, at most", f"{planned.connections.redis:,}"
    yield "connections", "Postgres, at most", f"{planned.connections.postgres:,}"
    yield "backlog", "bound, all lanes", f"{backlog.bound:,}"
    yield "backlog", "full after", "never" if backlog.full_after_s is None else _seconds(backlog.full_after_s)
    yield "backlog", "at the end, if no claim is refused", f"{backlog.at_the_end:,}"
    yield "backlog", "booked this long after the end", _seconds(backlog.caught_up_after_s)
    yield "settings", "HONGBAO_LANES", str(parts.lanes)
    yield "settings", "lanes on each master", str(parts.lanes // parts.redis_masters)
    yield "settings", "HONGBAO_WORKERS, all machines", str(parts.api_processes)
    yield "settings", "HONGBAO_PERSISTERS, all machines", str(parts.persister_processes)
    yield "settings", "HONGBAO_BACKLOG_MAX, to refuse no claim", str(planned.backlog_max)


def _table(planned: Plan) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    for justify in ("left", "left", "right"):
        table.add_column(justify=justify)
    last = ""
    for part, what, value in rows(planned):
        table.add_row(Text("" if part == last else part, style="bold"), what, value)
        last = part
    console = Console(highlight=False)
    console.print(table)
    for note in planned.notes:
        console.print(Text(note, style="yellow"))


def as_size(count_bytes: float) -> str:
    """Bytes in the unit that suits them."""
    return f"{_scaled(count_bytes)}B"


def _rate(bytes_per_second: int) -> str:
    return f"{_scaled(bytes_per_second * 8)}bit/s"


def _scaled(value: float) -> str:
    unit = 0
    while value >= 999.5 and unit + 1 < len(_UNITS):
        value, unit = value / 1_000, unit + 1
    return f"{_short(value)} {_UNITS[unit]}"


def _short(value: float) -> str:
    """Two figures behind the point below 10, one below 100, none above."""
    if value == 0:
        return "0"
    return f"{value:,.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _seconds(value: float) -> str:
    return f"{_short(value)} s"
