"""What more lanes cost: the same crowd on 1, 8, 16 and 64 lanes of one Redis, one API process, smaller calls.

32 packets are claimed at a time. So a call on one lane carries many packets, and calls on 64 lanes carry few claims.
"""

from benchmarks.rig import world as worlds
from benchmarks.rig.bench import Bench
from benchmarks.rig.runs import Trial, run
from benchmarks.rig.servers import ours_with
from benchmarks.rig.walks import Walk

LANES = (1, 8, 16, 64)
CONNECTIONS = 256
_PACKETS_AT_ONCE = 32
_ROUNDS = 3


def lanes(bench: Bench) -> None:
    """Measure only our server: the peers have no lanes."""
    plan = bench.plan
    made = {
        count: worlds.build(bench.stage, f"{count} lanes", packets=plan.packets_of_100, shares=100, lanes=count)
        for count in LANES
    }
    for number in range(1, min(_ROUNDS, plan.rounds) + 1):
        for count, world in made.items():
            server = ours_with({"HONGBAO_LANES": str(count)})
            trial = Trial(
                workload=f"{count} lanes",
                walk=Walk(packets=world.packets, hands=100, at_once=_PACKETS_AT_ONCE),
                connections=CONNECTIONS,
                duration_s=plan.seconds,
                warm_up_s=plan.warm_up_s,
            )
            bench.keep(run(bench.stage, world, server, trial, number))
