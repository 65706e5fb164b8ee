"""Workload D: a backend sends 500 claims per request, with 1, 10 or 100 claimants per packet."""

import dataclasses

from benchmarks.rig import generators
from benchmarks.rig.bench import Bench
from benchmarks.rig.cpu import Meter
from benchmarks.rig.runs import FAILURES, Run, counted, serving, settled
from benchmarks.rig.servers import OURS
from benchmarks.rig.stage import Stage
from benchmarks.rig.walks import BatchWalk
from benchmarks.rig.world import World

SIZE = 500
CONNECTIONS = 3
"""Two requests are in Redis and one is on its way. More would wait longer than a process allows."""
HANDS_A_PACKET = (1, 10, 100)
"""One claimant per packet only shows the benefit of sharing a packet."""
_WARM_UP_SHARE = 0.15


def batches(bench: Bench) -> None:
    """Measure only our server: the peers have no such endpoint."""
    world = bench.world("some hundreds", packets=bench.plan.packets_of_100_slow, shares=100)
    for number, server in bench.rounds([OURS], bench.plan.costly_rounds):
        for hands in HANDS_A_PACKET:
            if hands == 1 and number > bench.plan.single_rounds:
                continue
            about = {"workload": f"D {hands}", "server": server.name, "round": number, "connections": CONNECTIONS}
            walk = BatchWalk(packets=world.packets, hands=100, size=SIZE, hands_each=hands)
            end = min(walk.length, bench.plan.batch_requests)
            try:
                bench.keep({**about, **_run(bench.stage, world, dataclasses.replace(walk, end=end))})
            except FAILURES as error:
                bench.keep({**about, "void": f"{type(error).__name__}: {error}"})
            finally:
                bench.stage.redis.stop()


def _run(stage: Stage, world: World, walk: BatchWalk) -> Run:
    middle = int(walk.end * _WARM_UP_SHARE)
    with serving(stage, world, OURS) as (server, _), stage.redis.client() as client:
        warm_up = dataclasses.replace(walk, end=middle)
        generators.batches(stage, server, warm_up, connections=CONNECTIONS)
        held_before = settled(client, world)
        meter = Meter({"server": [server.process.pid], "redis": [stage.redis.pid]})
        measured = dataclasses.replace(walk, first=middle)
        load = generators.batches(stage, server, measured, connections=CONNECTIONS)
        cpu_s = meter.stop(generator=load.cpu_s)
        held = settled(client, world) - held_before
    done = counted(load, held, cpu_s, in_flight_max=0, claims_each=SIZE)
    return {**done, "hands": walk.hands_each, "void": "; ".join(done.pop("problems")) or None}
