"""The goals and whether they were met: one row per goal, made from the raw results only."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.report import growth
from benchmarks.report.selection import SERVERS, Selection, cpu_us
from benchmarks.rig.figures import Figure, figure, ratio
from benchmarks.rig.runs import Run
from benchmarks.rig.variants import ALONE, ON

PEAK_PER_S = 760_000
"""The highest published peak: WeChat on New Year's Eve 2017, red packets sent and received per second."""
AGAINST = (
    *(("A", 256, "go", 1.2), ("A", 256, "nginx", 1.3), ("A", 256, "fastify", 1.3), ("A", 256, "textbook", 5.0)),
    *(("A", 64, "go", 1.0), ("B", 256, "go", 1.8), ("A scattered", 256, "go", 1.3)),
    *((variant.name("A"), connections, "go-group", 1.0) for variant in (ALONE, ON) for connections in (64, 256)),
    *((variant.name("B"), 256, "go-group", 1.1) for variant in (ALONE, ON)),
)
"""(workload, connections, peer, smallest ratio)."""
COSTS = (
    ("A, 256 connections: API at most 12 us per claim", "A", 256, ("server",), 12.0),
    ("C: Redis at most 2.5 us per claim", "C", None, ("redis",), 2.5),
    ("D, 10 claimants per packet: API and Redis at most 5 us per claim", "D 10", None, ("server", "redis"), 5.0),
    ("D, 100 claimants per packet: API and Redis at most 3.5 us per claim", "D 100", None, ("server", "redis"), 3.5),
    ("F: persister and Postgres at most 8 us per claim", "F", None, ("persist", "postgres"), 8.0),
)
"""(goal, workload, connections if several are measured, processes, largest cost)."""
LATENCIES = (
    ("Open loop at half of saturation: p99 at most 5 ms", "p99", 5.0),
    ("Open loop at half of saturation: p99.9 at most 15 ms", "p99.9", 15.0),
    ("Open loop at half of saturation: nothing above 50 ms", "max", 50.0),
)
BYTES_A_CLAIM = 48.0
OVERLOAD_CONNECTIONS = 2_560
OVERLOADS = (
    ("Overload, ten times the connections: goodput at least 0.95 of the peak", "goodput", 0.95),
    ("Overload, ten times the connections: p99 of what is accepted at most 100 ms", "latency_ms/p99", 100.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One goal. ``figure`` None: not measured. ``ratio`` None: it is not a comparison."""

    goal: str
    figure: Figure | None
    unit: str
    ratio: Figure | None = None
    met: bool | None
    form: str = ",.0f"


def rows(results: Mapping[str, Any]) -> list[Row]:
    """Every goal, in the order of the workloads."""
    runs: list[Run] = results["runs"]
    memory = results.get("others", {}).get("memory", {})
    return [
        *_against_peers(runs),
        *_costs(runs),
        *_durable(runs),
        *_latencies(runs),
        *_overloads(runs),
        *_bytes(memory),
        *_grown(runs),
    ]


def _against_peers(runs: Sequence[Run]) -> Iterator[Row]:
    for workload, connections, peer, least in AGAINST:
        ours = Selection(runs, workload, "hongbao", connections)
        theirs = Selection(runs, workload, peer, connections)
        against = ratio(ours.by_round("answers_per_s"), theirs.by_round("answers_per_s"))
        goal = f"{workload}, {connections} connections: at least {least:g} x {SERVERS[peer]}"
        found = ours.figure("answers_per_s")
        yield Row(goal=goal, figure=found, unit="answers/s", ratio=against, met=_least(against, least))


def _costs(runs: Sequence[Run]) -> Iterator[Row]:
    for goal, workload, connections, names, most in COSTS:
        found = Selection(runs, workload, "hongbao", connections).figure(cpu_us(*names))
        yield Row(goal=goal, figure=found, unit="us/claim", met=_most(found, most), form=".2f")


def _durable(runs: Sequence[Run]) -> Iterator[Row]:
    ours, theirs = Selection(runs, "E"), Selection(runs, "E", "postgres")
    against = ratio(ours.by_round("durable_per_s"), theirs.by_round("durable_per_s"))
    yield Row(
        goal="E: durable claims at least 10 x straight on Postgres",
        figure=ours.figure("durable_per_s"),
        unit="claims/s",
        ratio=against,
        met=_least(against, 10.0),
    )
    alone = Selection(runs, "F")
    found, share = alone.figure("durable_per_s"), alone.figure("share_of_copy")
    goal = "F: persister at least 80,000 claims per second"
    yield Row(goal=goal, figure=found, unit="claims/s", met=_least(found, 80_000))
    goal = "F: persister at least 0.7 of a bare COPY"
    yield Row(goal=goal, figure=found, unit="claims/s", ratio=share, met=_least(share, 0.7))


def _latencies(runs: Sequence[Run]) -> Iterator[Row]:
    for goal, name, most in LATENCIES:
        found = Selection(runs, "open loop").figure(f"latency_ms/{name}")
        # "Nothing above" must hold in every round, not only in the median one.
        met = None if found is None else (found.most if name == "max" else found.median) <= most
        yield Row(goal=goal, figure=found, unit="ms", met=met, form=".2f")


def _overloads(runs: Sequence[Run]) -> Iterator[Row]:
    chosen = Selection(runs, "overload", "hongbao", OVERLOAD_CONNECTIONS)
    for goal, name, bound in OVERLOADS:
        found, is_share = chosen.figure(name), name == "goodput"
        met = _least(found, bound) if is_share else _most(found, bound)
        yield Row(goal=goal, figure=found, unit="of the peak" if is_share else "ms", met=met, form=".2f")


def _bytes(memory: Mapping[str, Any]) -> Iterator[Row]:
    measured = memory.get("claims", [])
    if not measured:
        yield Row(goal=f"Redis at most {BYTES_A_CLAIM:.0f} bytes per claim", figure=None, unit="bytes", met=None)
    for claims in measured:
        found = figure([claims["bytes_a_claim"]])
        goal = (
            f"Redis at most {BYTES_A_CLAIM:.0f} bytes per claim beside user and amount, packets of {claims['shares']}"
        )
        yield Row(goal=goal, figure=found, unit="bytes", met=_most(found, BYTES_A_CLAIM), form=".1f")


def _grown(runs: Sequence[Run]) -> Iterator[Row]:
    """Only what was measured: these parts are not in the default."""
    for curve in growth.CURVES:
        if len(points := curve.points(runs)) > 1:
            times = [point.times for point in points if point.times is not None]
            most = max(times, key=lambda found: found.median, default=None)
            first, last = points[0].amount, points[-1].amount
            goal = f"{curve.grows}, {first:,} to {last:,}: at most {growth.WITHIN:g} x the first cost ({curve.costs})"
            yield Row(
                goal=goal,
                figure=points[-1].cost,
                unit=curve.unit,
                ratio=most,
                met=_most(most, growth.WITHIN),
                form=".2f",
            )


def _least(found: Figure | None, least: float) -> bool | None:
    return None if found is None else found.median >= least


def _most(found: Figure | None, most: float) -> bool | None:
    return None if found is None else found.median <= most


def cores_for_peak(us_a_claim: float) -> float:
    """How many cores can handle the peak at this cost (API and Redis together), if every claim wins."""
    return PEAK_PER_S * us_a_claim / 1e6
