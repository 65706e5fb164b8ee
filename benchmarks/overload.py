"""Many times the load that the server can carry: what it still does, and how soon those it takes are answered.

The peak is a closed loop of 256 connections. Then ten times as many, and more, each asking again the moment it is
answered, whatever the answer: a crowd that keeps to nothing. Among them a few hundred clients that keep to Retry-After,
with intended send times, from which the latencies are taken (wrk cannot tell a refusal's from another's).
"""

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks import generators, wrk
from benchmarks.bench import Bench
from benchmarks.cpu import Meter
from benchmarks.load import Load
from benchmarks.runs import FAILURES, Run, serving
from benchmarks.servers import OURS, Started
from benchmarks.walks import Walk, claim_lua

PEAK_CONNECTIONS = 256
CROWDS = (2_560, 8_000)
"""Ten times the connections of the peak, and thirty."""
PROBE_CONNECTIONS, PROBE_PER_S = 600, 400
_GATHERING_S = 1
"""So long the crowd has to connect, before the probe begins."""
_WARM_UP, _PEAK, _CROWD = 0.05, 0.5, 0.95
"""Where in the walk each part ends; the rest is the probe's."""


def overload(bench: Bench) -> None:
    """Our server: the peak, and right after it the crowd, on the same process."""
    world = bench.world("hundreds", packets=bench.plan.packets_of_100, shares=100)
    walk = Walk(packets=world.packets, hands=100)
    for connections in CROWDS:
        for number, server in bench.rounds([OURS], bench.plan.costly_rounds):
            about = {"workload": "overload", "server": server.name, "round": number, "connections": connections}
            try:
                with serving(bench.stage, world, server) as (running, _):
                    found = _run(bench, running, walk, connections)
                bench.keep({**about, **found})
            except FAILURES as error:
                bench.keep({**about, "void": f"{type(error).__name__}: {error}"})
            finally:
                bench.stage.redis.stop()


def _run(bench: Bench, running: Started, walk: Walk, connections: int) -> Run:
    stage, seconds = bench.stage, bench.plan.seconds

    def part(first: float, end: float) -> Walk:
        return dataclasses.replace(walk, first=int(walk.length * first), end=int(walk.length * end))

    def load(walked: Walk, count: int, duration_s: int) -> Load:
        return wrk.run(running.base_url, claim_lua(walked, stage.token), connections=count, duration_s=duration_s)

    load(part(0, _WARM_UP), PEAK_CONNECTIONS, bench.plan.warm_up_s)
    peak = load(part(_WARM_UP, _PEAK), PEAK_CONNECTIONS, seconds)
    meter = Meter({"server": [running.process.pid], "redis": [stage.redis.pid]})
    orders = {"connections": PROBE_CONNECTIONS, "rate_per_s": PROBE_PER_S, "seconds": seconds, "seed": 2016}
    with ThreadPoolExecutor(1) as pool:
        crowding = pool.submit(load, part(_PEAK, _CROWD), connections, seconds + 2 * _GATHERING_S)
        time.sleep(_GATHERING_S)
        probe = generators.run(stage, running, "overload_client", part(_CROWD, 1), **orders)
        crowd = crowding.result()
    cpu_s = meter.stop(wrk=crowd.cpu_s, probe=probe["cpu_s"])
    return counted(peak, crowd, probe, cpu_s)


def counted(peak: Load, crowd: Load, probe: dict[str, Any], cpu_s: dict[str, float]) -> Run:
    """The run's figures: what was answered with a share or its like at the peak and in the crowd, and how soon."""
    refused = crowd.failures["status"]
    accepted_per_s = (crowd.requests - refused) / crowd.duration_s
    return {
        "peak_per_s": peak.per_s,
        "answers_per_s": accepted_per_s,
        "refused_per_s": refused / crowd.duration_s,
        "goodput": accepted_per_s / peak.per_s if peak.per_s else 0.0,
        "latency_ms": probe["latency_ms"],
        "refused_ms": probe["refused_ms"],
        "probe": {name: probe[name] for name in ("asked", "answered", "refused", "failed")},
        "cpu_share": {name: used / crowd.duration_s for name, used in cpu_s.items()},
        "void": "; ".join(problems(peak, crowd, probe)) or None,
    }


def problems(peak: Load, crowd: Load, probe: dict[str, Any]) -> list[str]:
    """What makes a run void: anything but refusals that went wrong, or a probe that was not answered."""
    wrong = [f"at the peak: {problem}" for problem in peak.problems()]
    wrong += [f"{count:,} {kind} errors" for kind, count in crowd.failures.items() if count and kind != "status"]
    if probe["failed"] or probe["answered"] + probe["refused"] != probe["asked"]:
        told = ", ".join(f"{probe[name]:,} {name}" for name in ("asked", "answered", "refused", "failed"))
        wrong.append(f"the probe: {told}")
    if not probe["answered"]:
        wrong.append("none of the probe's requests was accepted")
    return wrong
