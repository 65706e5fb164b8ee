"""Many times the load that the server can handle: how much it still does, and how soon accepted requests are answered.

The peak is a closed loop of 256 connections, before and after. Between them comes a crowd of ten times as many or more.
It obeys nothing: each connection sends again at once after every answer. Every claim wins, so the goodput is counted in
Redis, while the probe sends. The probe is a few hundred clients that obey Retry-After, with intended send times. The
latencies are the probe's, because wrk does not separate refusals. The start of its process (half a second of a core) is
no part of the crowd, and is not counted.
"""

import dataclasses
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import fmean
from typing import Any

from benchmarks.rig import generators, wrk
from benchmarks.rig.bench import Bench
from benchmarks.rig.cpu import Meter
from benchmarks.rig.lag import Sampler, emitted_per_s
from benchmarks.rig.load import Load
from benchmarks.rig.runs import FAILURES, Run, serving
from benchmarks.rig.servers import OURS, Started
from benchmarks.rig.walks import Walk, claim_lua
from benchmarks.rig.world import World

PEAK_CONNECTIONS = 256
CROWDS = (2_560, 8_000)
"""Ten times the connections of the peak, and thirty."""
_PATIENCE_S = 20
"""Refused connections are read again in turn, and late if they ignore Retry-After. This is not an error."""
PROBE_CONNECTIONS, PROBE_PER_S = 600, 400
_GATHERING_S, _STARTING_S = 1, 2
"""How long the crowd has to connect before the probe's process begins; how long this has to start."""
_WARM_UP, _BEFORE, _CROWD, _AFTER = 0.05, 0.28, 0.7, 0.93
"""Where in the walk each part ends. The probe uses the rest."""
_SHARES = 1_000


def overload(bench: Bench) -> None:
    """Measure our server: the peak, the crowd, and the peak again, on the same process."""
    world = bench.world("thousands", packets=bench.plan.crowd_claims // _SHARES, shares=_SHARES)
    for connections, rounds in zip(CROWDS, bench.plan.crowd_rounds, strict=True):
        for number, server in bench.rounds([OURS], rounds) if rounds else ():
            about = {"workload": "overload", "server": server.name, "round": number, "connections": connections}
            try:
                with serving(bench.stage, world, server) as (running, _):
                    found = _run(bench, running, world, connections)
                bench.keep({**about, **found})
            except FAILURES as error:
                bench.keep({**about, "void": f"{type(error).__name__}: {error}"})
            finally:
                bench.stage.redis.stop()


def _run(bench: Bench, running: Started, world: World, connections: int) -> Run:
    stage, seconds = bench.stage, bench.plan.seconds
    walk = Walk(packets=world.packets, hands=world.shares)

    def part(first: float, end: float) -> Walk:
        return dataclasses.replace(walk, first=int(walk.length * first), end=int(walk.length * end))

    def load(walked: Walk, count: int, duration_s: int) -> Load:
        script = claim_lua(walked, stage.token)
        return wrk.run(running.base_url, script, connections=count, duration_s=duration_s, patience_s=_PATIENCE_S)

    load(part(0, _WARM_UP), PEAK_CONNECTIONS, bench.plan.warm_up_s)
    crowded = part(_BEFORE, _CROWD)
    before = load(part(_WARM_UP, _BEFORE), PEAK_CONNECTIONS, seconds)
    meter = Meter({"server": [running.process.pid], "redis": [stage.redis.pid]})
    orders = {"connections": PROBE_CONNECTIONS, "rate_per_s": PROBE_PER_S, "seconds": seconds, "seed": 2016}
    with ThreadPoolExecutor(1) as pool, Sampler(stage.redis, world.lanes) as sampler:
        crowding = pool.submit(load, crowded, connections, _GATHERING_S + _STARTING_S + seconds)
        time.sleep(_GATHERING_S)
        probe = generators.run(stage, running, "overload_client", part(_AFTER, 1), **orders)
        crowd = crowding.result()
    cpu_s = meter.stop(wrk=crowd.cpu_s, probe=probe["cpu_s"])
    after = load(part(_CROWD, _AFTER), PEAK_CONNECTIONS, seconds)
    from_s, to_s = asked_amid(crowd, probe, sampler.began_s)
    if to_s - from_s < seconds / 2:
        return {"void": "the crowd was gone before the probe had asked much"}
    found = counted((before, after), crowd, emitted_per_s(sampler.samples, from_s, to_s), probe, cpu_s)
    if crowd.requests > crowded.taps_walked:
        found["void"] = "the walk came round: not every claim can win"
    return found


def asked_amid(crowd: Load, probe: dict[str, Any], began_s: float) -> tuple[float, float]:
    """From when to when the probe asked and the crowd was there, in seconds since ``began_s``.

    The crowd began a moment after that, so it was there a moment longer.
    """
    from_s, to_s = (at_s - began_s for at_s in probe["sent_s"])
    return from_s, min(to_s, crowd.duration_s)


def counted(
    peaks: Sequence[Load], crowd: Load, accepted_per_s: float, probe: dict[str, Any], cpu_s: dict[str, float]
) -> Run:
    """The run's figures: the shares per second at the peak and in the crowd, and the latencies."""
    refused = crowd.failures["status"]
    peak_per_s = fmean(peak.per_s for peak in peaks)
    return {
        "peak_per_s": peak_per_s,
        "answers_per_s": accepted_per_s,
        "refused_per_s": refused / crowd.duration_s,
        "goodput": accepted_per_s / peak_per_s if peak_per_s else 0.0,
        "latency_ms": probe["latency_ms"],
        "refused_ms": probe["refused_ms"],
        "probe": {name: probe[name] for name in ("asked", "answered", "refused", "failed")},
        "cpu_share": {name: used / crowd.duration_s for name, used in cpu_s.items()},
        "void": "; ".join(problems(peaks, crowd, probe)) or None,
    }


def problems(peaks: Sequence[Load], crowd: Load, probe: dict[str, Any]) -> list[str]:
    """Why a run is void: any error except refusals, or a probe without answers."""
    wrong = [f"at the peak: {problem}" for peak in peaks for problem in peak.problems()]
    wrong += [f"{count:,} {kind} errors" for kind, count in crowd.failures.items() if count and kind != "status"]
    if probe["failed"] or probe["answered"] + probe["refused"] != probe["asked"]:
        told = ", ".join(f"{probe[name]:,} {name}" for name in ("asked", "answered", "refused", "failed"))
        wrong.append(f"the probe: {told}")
    if not probe["answered"]:
        wrong.append("none of the probe's requests was accepted")
    return wrong
