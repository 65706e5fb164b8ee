"""What a claim costs if there is more of something: each curve by its points, as multiples of its first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.parts import ages, connections, crowding, lanes, sends, wallets
from benchmarks.report.selection import Selection, Value, cpu_us
from benchmarks.rig.figures import Figure, ratio
from benchmarks.rig.runs import Run

WITHIN = 1.15
"""How much more the last point of a curve may cost than its first."""
_CLAIM = cpu_us("server", "redis")
_SEND = cpu_us("server", "redis", "persist", "sweep", "postgres")


class Point(NamedTuple):
    """``amount``: how much there is. ``cost``: in the curve's unit. ``times``: x the first's, within each round."""

    amount: int
    cost: Figure
    times: Figure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """``costs``: of what, after the unit. ``runs_of``: amount -> workload and connections of its runs (None: any)."""

    grows: str
    unit: str
    costs: str
    runs_of: Mapping[int, tuple[str, int | None]]
    value: Value

    def points(self, runs: Sequence[Run]) -> list[Point]:
        """The points that were measured; none if there is no curve through them."""
        by_amount = {amount: Selection(runs, name, "hongbao", among) for amount, (name, among) in self.runs_of.items()}
        first = next(iter(by_amount.values())).by_round(self.value)
        points = [
            Point(amount, cost, ratio(chosen.by_round(self.value), first))
            for amount, chosen in by_amount.items()
            if (cost := chosen.figure(self.value)) is not None
        ]
        return points if len(points) > 1 or len(self.runs_of) == 1 else []


CURVES = (
    Curve(
        grows="open packets in Redis",
        unit="us",
        costs="of API and Redis per claim",
        runs_of={count: (crowding.workload(count), None) for count in crowding.OTHERS},
        value=_CLAIM,
    ),
    Curve(
        grows="entries in the ledger",
        unit="us",
        costs="of persister and Postgres per claim",
        runs_of={entries: (ages.workload(entries), None) for entries in ages.PASTS},
        value=cpu_us("persist", "postgres"),
    ),
    Curve(
        grows="lanes",
        unit="us",
        costs="of API and Redis per claim",
        runs_of={count: (f"{count} lanes", None) for count in lanes.LANES},
        value=_CLAIM,
    ),
    Curve(
        grows="connections",
        unit="us",
        costs="of API and Redis per claim",
        runs_of={count: (connections.WORKLOAD, count) for count in connections.CONNECTIONS},
        value=_CLAIM,
    ),
    Curve(
        grows="connections that are kept",
        unit="bytes",
        costs="of the API per connection",
        runs_of={count: (connections.HELD, count) for count in connections.KEPT},
        value="bytes_a_connection",
    ),
    Curve(
        grows="clients that send",
        unit="us",
        costs="of all processes per packet sent",
        runs_of={clients: (sends.WORKLOAD, clients) for clients in sends.CLIENTS},
        value=_SEND,
    ),
    Curve(
        grows="entries of a wallet",
        unit="ms",
        costs="for the newest page",
        runs_of={entries: (wallets.workload(entries), None) for entries in wallets.ENTRIES},
        value="page_ms/newest",
    ),
    Curve(
        grows="entries of a wallet",
        unit="ms",
        costs="for a page in the middle",
        runs_of={entries: (wallets.workload(entries), None) for entries in wallets.ENTRIES},
        value="page_ms/middle",
    ),
)
