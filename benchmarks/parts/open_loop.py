"""Latency in an open loop at half of the server's capacity: send times are intended, not set by the server."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from benchmarks.rig import generators, wrk
from benchmarks.rig.bench import Bench
from benchmarks.rig.cpu import Meter
from benchmarks.rig.load import CPU_SHARE_MAX
from benchmarks.rig.runs import FAILURES, Run, beside, serving, trees
from benchmarks.rig.servers import GO, GO_GROUP, OURS, Server
from benchmarks.rig.variants import ALONE, BARE, ON, Variant
from benchmarks.rig.walks import Walk, claim_lua
from benchmarks.rig.world import World

CONNECTIONS = 256
SHARE_OF_SATURATION = 0.5
_WARM_UP_SHARE = 0.25


def open_loop(bench: Bench) -> None:
    """Measure our server and both of Go, each at half of its own median in A at 256 connections."""
    plan = bench.plan
    for variant, rounds, servers in (
        (ALONE, plan.costly_rounds, (OURS, GO_GROUP, GO)),
        (BARE, plan.bare_rounds, (OURS, GO_GROUP, GO)),
        (ON, plan.everything_on_rounds, (OURS, GO_GROUP)),
    ):
        _measure(bench, variant, rounds, [server for server in bench.servers if server in servers])


def _measure(bench: Bench, variant: Variant, rounds: int, servers: Sequence[Server]) -> None:
    world = bench.world("hundreds", packets=bench.plan.packets_of_100, shares=100)
    for number, server in bench.rounds(servers, rounds):
        saturation = bench.median(variant.name("A"), server.name, CONNECTIONS, "answers_per_s")
        workload = variant.name("open loop")
        about = {"workload": workload, "server": server.name, "round": number, "connections": CONNECTIONS}
        try:
            bench.keep({**about, **_run(bench, world, server, saturation, variant)})
        except FAILURES as error:
            bench.keep({**about, "void": f"{type(error).__name__}: {error}"})
        finally:
            bench.stage.redis.stop()


def _run(bench: Bench, world: World, server: Server, saturation: float | None, variant: Variant) -> Run:
    walk = Walk(packets=world.packets, hands=100)
    stage, middle = bench.stage, int(walk.length * _WARM_UP_SHARE)
    warm_up = claim_lua(dataclasses.replace(walk, first=0, end=middle), stage.token, variant.shape)
    with (
        serving(stage, world, server, appendfsync=variant.appendfsync) as (running, database),
        beside(stage, database, variant.beside) as others,
    ):
        # The warm-up saturates it. If A was not measured, this is the saturation.
        load = wrk.run(running.base_url, warm_up, connections=CONNECTIONS, duration_s=bench.plan.warm_up_s)
        rate_per_s = (saturation or load.per_s) * SHARE_OF_SATURATION
        part = dataclasses.replace(walk, first=middle, end=walk.length)
        seconds = bench.plan.open_loop_seconds
        orders: dict[str, Any] = {"connections": CONNECTIONS, "rate_per_s": rate_per_s, "seconds": seconds}
        orders |= {"seed": 2016, "shape": variant.shape}
        meter = Meter(trees(stage, running, others))
        found = generators.run(stage, running, "open_loop_client", part, **orders)
        cpu_s = meter.stop(generator=found["cpu_s"])
    return {
        **found,
        "rate_per_s": rate_per_s,
        "answers_per_s": found["per_s"],
        "cpu_us_per_answer": {name: used / max(1, found["answered"]) * 1e6 for name, used in cpu_s.items()},
        "void": "; ".join(problems(found, seconds)) or None,
    }


def problems(found: dict[str, Any], seconds: float) -> list[str]:
    """Why the latencies are void."""
    wrong = []
    if found["failed"] or found["answered"] != found["asked"]:
        wrong.append(f"{found['asked']:,} asked, {found['answered']:,} answered, {found['failed']:,} failed")
    if found["cpu_s"] / seconds > CPU_SHARE_MAX:
        wrong.append(f"the generator used {found['cpu_s'] / seconds:.0%} of a core")
    return wrong
