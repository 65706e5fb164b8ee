"""The report's sections: one per workload that was measured."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from benchmarks.parts.ages import PASTS
from benchmarks.parts.ages import workload as after
from benchmarks.parts.batches import HANDS_A_PACKET
from benchmarks.parts.crowding import OTHERS
from benchmarks.parts.crowding import workload as beside
from benchmarks.parts.lanes import LANES
from benchmarks.parts.masters import MASTERS
from benchmarks.parts.masters import workload as on_masters
from benchmarks.parts.outage import AFTER_S, BACKLOG_MAX, BEFORE_S, CONNECTIONS, RATE_PER_S, STOPPED_S
from benchmarks.parts.overload import CROWDS
from benchmarks.parts.persisting import SEVERAL, SMALL, by_several
from benchmarks.report import goals, growth, size_tables
from benchmarks.report.selection import SERVERS, Selection, cpu_us
from benchmarks.rig.figures import Figure, ratio
from benchmarks.rig.load import CPU_SHARE_MAX
from benchmarks.rig.redis_server import APPENDFSYNC
from benchmarks.rig.runs import Run
from benchmarks.rig.variants import ALONE, BARE, ON, Variant
from engine.records import Ack

STORMS = (
    ("A", 64, "A. All winners, 64 connections"),
    ("A", 256, "A. All winners, 256 connections"),
    ("A scattered", 256, "A, scattered: every claim in flight is for another packet, 256 connections"),
    ("B", 256, "B. Group storm: 10 shares, 100 claimants, each taps twice; 256 connections"),
    ("C", 256, "C. One hot packet, 256 connections"),
)
VARIANTS = ((ALONE, ""), (BARE, ", with bare headers"), (ON, ", with everything on"))
_STORM = ("server", "answers/s", "Hongbao's ratio", "claims/s", "repeats/s", "refusals/s")
_COSTS = ("server us", "Redis us", "wrk us", "wrk of a core")
_LEDGER = ("persist", "sweep", "postgres")
PERCENTILES = ("p50", "p90", "p99", "p99.9", "max")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. All columns but the first are aligned right."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def sections(results: Mapping[str, Any]) -> Iterator[str]:
    """Each section that has results."""
    runs, others = results["runs"], results.get("others", {})
    for workload, connections, title in STORMS:
        for variant, told in VARIANTS:
            ledger = ["persister, sweeper and Postgres us"] if variant.everything_on else []
            if storm := list(_storm(runs, variant, workload, connections)):
                yield f"## {title}{told}\n\n" + table([*_STORM, *_COSTS, *ledger], storm)
    for title, note, head, rows in (
        ("D. Requests of 500 claims, 3 connections, every claim a winner", _CORES, _BATCHES, _batches(runs)),
        ("More lanes, 256 connections, 32 packets at a time", _LANES_NOTE, _LANES, _lanes(runs)),
        ("More masters, 12 lanes, 256 connections, 32 packets at a time", _MASTERS_NOTE, _MASTERS, _masters(runs)),
        ("Beside many other packets, 256 connections", _CROWDING_NOTE, _CROWDING, _crowding(runs)),
        ("Growth: what there is more of, and what it costs", _GROWTH_NOTE, _GROWTH, _growth(runs)),
        ("E. Everything on, durable to the ledger; append-only file everysec", _E, _DURABLE, _durable(runs)),
        ("What the append-only file costs", _APPEND_ONLY_NOTE, _APPEND_ONLY, _append_only(runs)),
        ("What each ack mode costs", _ACKS_NOTE, _ACKS, _acks(runs)),
        ("F. The persister alone, on streams that are full", _F, _PERSISTER, _persister(runs)),
        ("F, on two lanes: one persister, and two that share them", _SEVERAL_NOTE, _SEVERAL, _several(runs)),
        ("F, in a young ledger and in an old one", _AGES_NOTE, _AGES, _ages(runs, others)),
        *(
            (f"Open loop at half of saturation, 256 connections{told}", _OPEN, _OPEN_LOOP, _open_loop(runs, variant))
            for variant, told in VARIANTS
        ),
        ("What the load generators can do", _CEILINGS_NOTE, _CEILINGS, _ceilings(others)),
        ("Overload: the peak, then ten and thirty times its connections", _OVERLOAD_NOTE, _OVERLOAD, _overload(runs)),
        ("Postgres held for a minute under load", _OUTAGE_NOTE, _OUTAGE, _outage(runs)),
        ("G. Lucky splits, one core", "", _SPLIT, _split(others)),
        ("Fairness: what a place in the queue is worth", _FAIRNESS_NOTE, _FAIRNESS, _fairness(others)),
        ("A day's limit that many reach at once", _LIMITS_NOTE, _LIMITS, _limits(others)),
        ("Memory of a claim", _CLAIM_MEMORY, _CLAIMS, _claim_memory(others)),
        (
            "Bytes of a packet and of a claim",
            size_tables.PACKETS_NOTE,
            size_tables.PACKETS,
            size_tables.packets(others),
        ),
        ("Bytes of a request", size_tables.REQUESTS_NOTE, size_tables.REQUESTS, size_tables.requests(others)),
        ("A script call by its size", size_tables.CALLS_NOTE, size_tables.CALLS, size_tables.calls(others)),
        ("Memory at rest", _REST_NOTE, _REST, _at_rest(others)),
        ("Where the time goes, 256 connections", _PROFILE_NOTE, _PROFILE, _profiles(others)),
    ):
        if found := list(rows):
            yield f"## {title}\n\n" + table(head, found) + (f"\n\n{note}" if note else "")


def _storm(runs: Sequence[Run], variant: Variant, storm: str, connections: int) -> Iterator[list[str]]:
    workload = variant.name(storm)
    ours = Selection(runs, workload, "hongbao", connections).by_round("answers_per_s")
    for server, title in SERVERS.items():
        theirs = Selection(runs, workload, server, connections)
        if (found := theirs.figure("answers_per_s")) is None:
            continue
        against = None if server == "hongbao" else ratio(ours, theirs.by_round("answers_per_s"))
        kinds = [text(theirs.figure(f"{kind}_per_s"), spread=False) for kind in ("claims", "repeats", "refusals")]
        costs = [text(theirs.figure(cpu_us(name)), ".1f", spread=False) for name in ("server", "redis", "wrk")]
        share = text(theirs.figure("cpu_share/wrk"), ".0%", spread=False)
        ledger = [text(theirs.figure(cpu_us(*_LEDGER)), ".1f", spread=False)] if variant.everything_on else []
        yield [title, found.text(), text(against, ".2f"), *kinds, *costs, share, *ledger]


_BATCHES = (
    "claimants per packet",
    "claims/s",
    "API us per claim",
    "Redis us per claim",
    "together",
    "cores for the peak",
)
_CORES = (
    "Cores for the peak: 760,000 claims per second (the highest published peak, 2017) times the CPU time of API and "
    "Redis per claim. The cost of the ledger (F) and of everything in front of the API is not included."
)


def _batches(runs: Sequence[Run]) -> Iterator[list[str]]:
    for hands in HANDS_A_PACKET:
        chosen = Selection(runs, f"D {hands}")
        both = chosen.figure(cpu_us("server", "redis"))
        if both is not None:
            apart = [text(chosen.figure(cpu_us(name)), ".2f") for name in ("server", "redis")]
            cores = f"{goals.cores_for_peak(both.median):.1f}"
            yield [str(hands), text(chosen.figure("claims_per_s")), *apart, both.text(".2f"), cores]


_LANES = ("lanes", "claims/s", "API us per claim", "Redis us per claim")
_LANES_NOTE = "One API process, one Redis, every claim a winner, no persister."


def _lanes(runs: Sequence[Run]) -> Iterator[list[str]]:
    for count in LANES:
        chosen = Selection(runs, f"{count} lanes")
        if (found := chosen.figure("claims_per_s")) is not None:
            costs = [text(chosen.figure(cpu_us(name)), ".1f") for name in ("server", "redis")]
            yield [str(count), found.text(), *costs]


_CROWDING = ("other open packets in Redis", "claims/s", "API us per claim", "Redis us per claim", "both, x the fewest")
_CROWDING_NOTE = (
    "One API process, one Redis, all winners, no persister. The others have ten shares each; nobody claims them."
)


def _crowding(runs: Sequence[Run]) -> Iterator[list[str]]:
    for count, cells in _beside_the_first(runs, OTHERS, beside):
        yield [f"{count:,}", *cells]


_GROWTH = ("what grows", "to", "cost", "", "x the first", "per second")
_GROWTH_NOTE = (
    "Multiples are within a round. Connections: each asks again as soon as it is answered, and nobody is refused. "
    "Those that are kept have each had one answer. Packets sent: ten shares each, by a thousand senders, with "
    "everything on."
)


def _growth(runs: Sequence[Run]) -> Iterator[list[str]]:
    for curve in growth.CURVES:
        for point in curve.points(runs):
            workload, connections = curve.runs_of[point.amount]
            rate = Selection(runs, workload, "hongbao", connections).figure("answers_per_s")
            per_s = text(rate if rate and rate.median else None)
            times = text(point.times, ".2f")
            yield [
                curve.grows,
                f"{point.amount:,}",
                point.cost.text(",.2f"),
                f"{curve.unit} {curve.costs}",
                times,
                per_s,
            ]


_MASTERS = ("masters of the cluster", "claims/s", "API us per claim", "Redis us per claim", "both, x one master")
_MASTERS_NOTE = (
    "One API process, a Valkey cluster without replicas, append-only file everysec, all winners, no persister. "
    "All share the cores, so the rate cannot grow with the masters: the CPU time per claim is the figure."
)


def _masters(runs: Sequence[Run]) -> Iterator[list[str]]:
    for count, cells in _beside_the_first(runs, MASTERS, on_masters):
        yield [str(count), *cells]


def _beside_the_first(
    runs: Sequence[Run], counts: Sequence[int], name: Callable[[int], str]
) -> Iterator[tuple[int, list[str]]]:
    """Our runs under each count: the rate, the costs, and both costs as a multiple of those under the first count."""
    first = Selection(runs, name(counts[0])).by_round(cpu_us("server", "redis"))
    for count in counts:
        chosen = Selection(runs, name(count))
        if (found := chosen.figure("claims_per_s")) is not None:
            costs = [text(chosen.figure(cpu_us(part)), ".1f") for part in ("server", "redis")]
            times = ratio(chosen.by_round(cpu_us("server", "redis")), first)
            yield count, [found.text(), *costs, text(times, ".2f")]


_DURABLE = (
    "server",
    "durable claims/s",
    "Hongbao's ratio",
    "answers/s",
    "longest lag s",
    "drained after s",
    "CPU us per claim",
)
_E = "A claim counts once it is in Postgres: the rate is the claims over the time until the last of them was there."


def _durable(runs: Sequence[Run]) -> Iterator[list[str]]:
    ours = Selection(runs, "E").by_round("durable_per_s")
    for server in ("hongbao", "go-group", "postgres"):
        chosen = Selection(runs, "E", server)
        if (durable := chosen.figure("durable_per_s")) is not None:
            against = None if server == "hongbao" else ratio(ours, chosen.by_round("durable_per_s"))
            rates = [durable.text(), text(against, ".2f"), text(chosen.figure("answers_per_s"))]
            lag = [text(chosen.figure(name), ".2f") for name in ("lag_s_max", "drained_after_s")]
            yield [SERVERS[server], *rates, *lag, _by_process(chosen)]


_APPEND_ONLY = ("appendfsync", "claims/s", "API us per claim", "Redis us per claim")
_APPEND_ONLY_NOTE = "Workload A, 256 connections, our server, no persister. `off`: no such file."


def _append_only(runs: Sequence[Run]) -> Iterator[list[str]]:
    for setting in APPENDFSYNC:
        chosen = Selection([run for run in runs if run.get("appendfsync") == setting], "AOF")
        if (rate := chosen.figure("answers_per_s")) is not None:
            yield [setting, rate.text(), *(text(chosen.figure(cpu_us(name)), ".2f") for name in ("server", "redis"))]


_ACKS = ("ack", "claims/s", "p50 ms", "p99 ms", *(f"{name} us per claim" for name in ("API", "Redis", "persister")))
_ACKS_NOTE = (
    "Workload A, 64 connections, every claim a winner; persister and append-only file on (`always` for fsync, else "
    "`everysec`), one replica for replica. Latencies are those of a closed loop, by wrk."
)


def _acks(runs: Sequence[Run]) -> Iterator[list[str]]:
    for ack in Ack:
        chosen = Selection([run for run in runs if run.get("ack") == ack], "ack")
        if (rate := chosen.figure("answers_per_s")) is not None:
            latencies = (text(chosen.figure(f"closed_loop_ms/{name}"), ".1f") for name in ("p50", "p99"))
            costs = (text(chosen.figure(cpu_us(name)), ".1f") for name in ("server", "redis", "persist"))
            yield [ack, rate.text(), *latencies, *costs]


_PERSISTER = (
    "shares per packet",
    "persister, claims/s",
    "bare COPY, rows/s",
    "ratio",
    "transactions",
    "CPU us per claim",
)
_F = (
    "The persister runs already, and the ledger makes it wait until all claims are in the stream. Before 2026-11-30 "
    "its CPU time had the start of Python in it, and that of comparing a Redis that was started anew. "
    "The bare COPY writes the same rows, ready in binary, to the same table with its indexes, in as many transactions, "
    "over one connection; the persister has one per lane."
)


_SEVERAL = ("persisters", "claims/s", "x one", "persister us per claim", "Postgres us per claim", "Redis us per claim")
_SEVERAL_NOTE = "Postgres, Redis and the persisters share the cores, so the rate grows only while a core is idle."


def _several(runs: Sequence[Run]) -> Iterator[list[str]]:
    alone = Selection(runs, by_several(SEVERAL[0])).by_round("durable_per_s")
    for count in SEVERAL:
        chosen = Selection(runs, by_several(count))
        if (found := chosen.figure("durable_per_s")) is not None:
            costs = [text(chosen.figure(cpu_us(part)), ".1f") for part in ("persist", "postgres", "redis")]
            yield [str(count), found.text(), text(ratio(chosen.by_round("durable_per_s"), alone), ".2f"), *costs]


_AGES = (
    *("claims in the ledger", "claims/s", "persister us per claim", "Postgres us per claim", "both, x the fewest"),
    *("audit of the new claims, s", "audit of all before, s"),
)
_AGES_NOTE = (
    "The past is in volumes of as many entries as Postgres's memory makes them, and its wallets are those that claim. "
    "Postgres's CPU time includes that of its background processes. The audit goes on from an anchor from before the "
    "claims."
)


def _ages(runs: Sequence[Run], others: Mapping[str, Any]) -> Iterator[list[str]]:
    first = Selection(runs, after(PASTS[0]))
    for entries in PASTS:
        chosen = Selection(runs, after(entries))
        if (found := chosen.figure("durable_per_s")) is not None:
            costs = [text(chosen.figure(cpu_us(part)), ".1f") for part in ("persist", "postgres")]
            both = [part.by_round(cpu_us("persist", "postgres")) for part in (chosen, first)]
            whole_s = others.get("ages", {}).get(str(entries))
            audits = (text(chosen.figure("audit_s"), ".1f"), "–" if whole_s is None else f"{whole_s:.0f}")
            yield [f"{entries:,}", found.text(), *costs, text(ratio(*both), ".2f"), *audits]


def _persister(runs: Sequence[Run]) -> Iterator[list[str]]:
    for workload, shares in (("F", "100"), (SMALL, "10")):
        chosen = Selection(runs, workload)
        if (rate := chosen.figure("durable_per_s")) is not None:
            copy, share = text(chosen.figure("copy_per_s")), text(chosen.figure("share_of_copy"), ".2f")
            yield [shares, rate.text(), copy, share, text(chosen.figure("transactions")), _by_process(chosen)]


_OPEN_LOOP = ("server", "asked/s", *(f"{name} ms" for name in PERCENTILES), "server us", "Redis us")
_OPEN = (
    "Half of the rate that each reached in A. Arrivals are drawn in advance (Poisson). Latency runs from the moment a "
    "request was due to its complete answer. Up to 1 ms of each is the generator's own clock."
)


def _open_loop(runs: Sequence[Run], variant: Variant) -> Iterator[list[str]]:
    for server, title in SERVERS.items():
        chosen = Selection(runs, variant.name("open loop"), server)
        if (rate := chosen.figure("rate_per_s")) is not None:
            latencies = [text(chosen.figure(f"latency_ms/{name}"), ".2f") for name in PERCENTILES]
            costs = [text(chosen.figure(cpu_us(name)), ".1f", spread=False) for name in ("server", "redis")]
            yield [title, text(rate, spread=False), *latencies, *costs]


_CEILINGS = ("generator", "headers", "connections", "requests/s", "its us per request", "most requests/s")
_CEILINGS_NOTE = (
    "Against a server that answers everything with the same bytes. The most: what a generator could send in the "
    f"{CPU_SHARE_MAX:.0%} of a core above which a run is void. wrk's time includes the reading of its requests."
)


def _ceilings(others: Mapping[str, Any]) -> Iterator[list[str]]:
    for found in others.get("ceilings", {}).get("of", []):
        figures = [f"{found['per_s']:,.0f}", f"{found['cpu_us']:.1f}", f"{found['ceiling_per_s']:,.0f}"]
        yield [found["generator"], found["shape"], str(found["connections"]), *figures]


_OVERLOAD = (
    *("connections", "peak/s", "accepted/s", "of the peak", "refused/s"),
    *("accepted p50 ms", "accepted p99 ms", "refused p50 ms", "refused p99 ms"),
)
_OVERLOAD_NOTE = (
    "wrk sends again on every connection as soon as it is answered, whatever the answer. Latencies are those of 600 "
    "more connections, with 400 requests per second at times drawn in advance, that obey Retry-After."
)


def _overload(runs: Sequence[Run]) -> Iterator[list[str]]:
    for connections in CROWDS:
        chosen = Selection(runs, "overload", "hongbao", connections)
        if (accepted := chosen.figure("answers_per_s")) is not None:
            latencies = [
                text(chosen.figure(name), ".1f")
                for name in ("latency_ms/p50", "latency_ms/p99", "refused_ms/p50", "refused_ms/p99")
            ]
            rates = [text(chosen.figure("peak_per_s")), accepted.text(), text(chosen.figure("goodput"), ".2f")]
            yield [f"{connections:,}", *rates, text(chosen.figure("refused_per_s")), *latencies]


_OUTAGE = ("seconds", "asked/s", "given/s", "busy/s", "p99 of given ms", "most behind, claims")
_OUTAGE_NOTE = (
    f"{RATE_PER_S:,} claims per second over {CONNECTIONS} connections; after {BEFORE_S} s every process of Postgres is "
    f"held for {STOPPED_S} s. The backlog's bound is {BACKLOG_MAX:,} changes. Afterwards every claim that was "
    "answered with a share is in the ledger, and the audit is clean; otherwise the run would be void."
)


def _outage(runs: Sequence[Run]) -> Iterator[list[str]]:
    for run in (run for run in runs if run["workload"] == "outage" and not run["void"]):
        stopped, again = BEFORE_S, BEFORE_S + STOPPED_S
        ends = sorted({0, stopped, stopped + STOPPED_S // 3, again - STOPPED_S // 3, again, again + AFTER_S})
        for first, end in pairwise(ends):
            seconds = [second for second in run["seconds"] if first <= second["second"] < end]
            told = [sum(second[name] for second in seconds) / (end - first) for name in ("given", "busy")]
            slowest = max((second["p99_ms"] for second in seconds if second["p99_ms"] is not None), default=0.0)
            behind = max((backlog for at_s, backlog in run["backlog"] if first <= at_s < end), default=0)
            rates = [f"{rate:,.0f}" for rate in (sum(told), *told)]
            yield [f"{first} to {end}", *rates, f"{slowest:.1f}", f"{behind:,}"]


_SPLIT = ("shares", "us per split", "shares/s")


def _split(others: Mapping[str, Any]) -> Iterator[list[str]]:
    for time in others.get("split", {}).get("times", []):
        millions = f"{time['shares_per_s'] / 1e6:.2f} million"
        yield [f"{time['shares']:,}", f"{time['us_a_split']:,.1f}", millions]


_FAIRNESS = ("rule", "place", "mean", "standard deviation", "luckiest of its packet")
_FAIRNESS_NOTE = (
    "Lucky packets of ten shares; mean and deviation as fractions of the mean share. If all places are equal, each has "
    "the luckiest share in a tenth of the packets. The last row of each rule: chi-square of the luckiest (9 degrees of "
    "freedom) and of all ranks (81, Anderson's), and the probability of values this large by chance."
)


def _fairness(others: Mapping[str, Any]) -> Iterator[list[str]]:
    found = others.get("fairness", {})
    for rule, by_place in found.get("rules", {}).items():
        rows = zip(by_place["mean"], by_place["deviation"], by_place["luckiest"], strict=True)
        for place, (mean, deviation, luckiest) in enumerate(rows, start=1):
            yield [rule, f"{place}", f"{mean:.4f}", f"{deviation:.4f}", f"{luckiest:.4f}"]
        even, alike = (
            f"{by_place[f'{name}_chi_square']:,.1f} (p = {by_place[f'{name}_p']:.2g})" for name in ("luckiest", "ranks")
        )
        yield [rule, f"all, {found['packets']:,} packets", "", f"ranks {alike}", f"luckiest {even}"]


_LIMITS = ("round", "people", "median", "p99", "last")
_LIMITS_NOTE = (
    "One lane, the persister and the sweeper at their defaults. Seconds from the ledger's commit of the n-th claim to "
    "the moment from which claim.lua refused the n-th user."
)


def _limits(others: Mapping[str, Any]) -> Iterator[list[str]]:
    found = others.get("limits", {})
    for number, done in enumerate(found.get("rounds", []), start=1):
        figures = [done["void"], "", ""] if "void" in done else [f"{done[f'{name}_s']:.2f} s" for name in _LIMITS_OF]
        yield [str(number), f"{found['people']:,}", *figures]


_LIMITS_OF = ("median", "p99", "max")
_CLAIMS = ("shares", "bytes per claim", "user and amount", "the rest", "the packet's own record, per claim")
_CLAIM_MEMORY = (
    "Redis's own figure (MEMORY USAGE of the claims hash, with its key and its object), with every share claimed."
)


def _claim_memory(others: Mapping[str, Any]) -> Iterator[list[str]]:
    names = ("bytes_a_claim_whole", "user_and_amount_bytes", "bytes_a_claim", "record_bytes_a_claim")
    for claims in others.get("memory", {}).get("claims", []):
        yield [str(claims["shares"]), *(f"{claims[name]:.1f}" for name in names)]


_REST = ("process", "processes", "RSS MiB", "PSS MiB")
_REST_NOTE = "Before any request. PSS divides shared pages among the processes that share them."


def _at_rest(others: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, weight in others.get("memory", {}).get("at_rest", {}).items():
        sizes = [f"{weight[kind] / 2**20:.0f}" for kind in ("rss_bytes", "pss_bytes")]
        yield [name, str(weight["processes"]), *sizes]


_PROFILE = ("process", "by library", "largest symbols")
_PROFILE_NOTE = (
    "Samples by perf of our server and its Redis while the workload runs. Unnamed symbols count together per library."
)


def _profiles(others: Mapping[str, Any]) -> Iterator[list[str]]:
    for found in others.get("profiles", {}).get("of", []):
        libraries = "<br>".join(f"{name} {share:.0%}" for name, share in found["libraries"].items())
        symbols = "<br>".join(f"{symbol} {share:.1%}" for _, symbol, share in found["symbols"])
        yield [f"{found['workload']}: {found['process']}", libraries, symbols]


def _by_process(chosen: Selection) -> str:
    medians = [(name, chosen.figure(cpu_us(name))) for name in chosen.processes() if name != "other"]
    return ", ".join(f"{name} {found.median:.1f}" for name, found in medians if found)


def text(found: Figure | None, form: str = ",.0f", *, spread: bool = True) -> str:
    """A figure in a table's cell."""
    if found is None:
        return "–"
    return found.text(form) if spread else f"{found.median:{form}}"
