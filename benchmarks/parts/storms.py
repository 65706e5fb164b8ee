"""Workloads A to C: claims over HTTP in a closed loop. In A and B also with bare headers, and with everything on.

Otherwise no persister runs until the end, because most peers have none.
"""

from collections.abc import Iterator, Sequence

from benchmarks.rig.bench import Bench
from benchmarks.rig.runs import Run, Trial, run
from benchmarks.rig.servers import GO, GO_GROUP, ON_REDIS, OURS, Server
from benchmarks.rig.variants import ALONE, BARE, ON, Variant
from benchmarks.rig.walks import Walk

CONNECTIONS = (64, 256)
SCATTERED = 256
"""In the scattered form of A, every claim in flight is for a different packet."""
GROUPS_AT_ONCE = 16


def all_winners(bench: Bench) -> None:
    """A: packets of 100 shares, each claimed by 100 users at once, packet after packet. Every claim wins."""
    world = bench.world("hundreds", packets=bench.plan.packets_of_100, shares=100)
    together = Walk(packets=world.packets, hands=100)
    scattered = Walk(packets=world.packets, hands=100, at_once=SCATTERED)
    for variant, servers, rounds in _variants(bench):
        for connections in CONNECTIONS:
            for number, server in bench.rounds(servers, rounds):
                bench.run(world, server, _trial(bench, "A", together, connections, variant), number)
        for number, server in bench.rounds(_taking_part(bench, servers, GO, GO_GROUP), _fewer(bench, rounds)):
            bench.run(world, server, _trial(bench, "A scattered", scattered, 256, variant), number)


def _variants(bench: Bench) -> Iterator[tuple[Variant, list[Server], int]]:
    """A variant, the servers that take part, and how many rounds."""
    every = _taking_part(bench, ON_REDIS)
    yield ALONE, every, bench.plan.rounds
    yield BARE, _taking_part(bench, every, GO, GO_GROUP), bench.plan.bare_rounds
    yield ON, _taking_part(bench, every, GO_GROUP), bench.plan.everything_on_rounds


def group_storm(bench: Bench) -> None:
    """B: packets of 10 shares, 100 users, each claims twice: of 200 answers 10 are shares, 10 repeats, 180 losses."""
    world = bench.world("tens", packets=bench.plan.packets_of_10, shares=10)
    walk = Walk(packets=world.packets, hands=100, taps=2, at_once=GROUPS_AT_ONCE)
    for variant, servers, rounds in _variants(bench):
        for number, server in bench.rounds(servers, rounds):
            trial = _trial(bench, "B", walk, 256, variant, all_win=False)
            done = run(bench.stage, world, server, trial, number)
            if done["void"] is None:
                _tell_apart(done, walk, int(walk.length * trial.warm_up_share), world.shares)
            bench.keep(done)


def _tell_apart(done: Run, walk: Walk, first: int, shares: int) -> None:
    """Count a run's repeats and refusals, from the walk and the claims in Redis."""
    if done["answers"] > walk.length - first:
        done["void"] = "the walk came round: packets were tapped more often than they should"
        return
    repeats = repeats_within(walk, first, done["answers"], shares)
    done["repeats_per_s"] = repeats / done["duration_s"]
    done["refusals_per_s"] = (done["answers"] - done["claims"] - repeats) / done["duration_s"]


def repeats_within(walk: Walk, first: int, answers: int, shares: int) -> int:
    """How many of ``answers`` taps from ``first`` on are a winner's second. The first claimants of each packet win.

    This is exact, except for taps in flight that may have overtaken each other.
    """
    return _repeats_before(walk, first + answers, shares) - _repeats_before(walk, first, shares)


def _repeats_before(walk: Walk, index: int, shares: int) -> int:
    """The repeats among all taps before ``index``. Each user taps twice."""
    blocks, within = divmod(index, walk.at_once * walk.hands * walk.taps)
    rounds, more = divmod(within, walk.at_once)

    def of_a_packet(taps: int) -> int:
        return min(max(taps - walk.hands, 0), shares)

    partial = more * of_a_packet(rounds + 1) + (walk.at_once - more) * of_a_packet(rounds)
    return blocks * walk.at_once * shares + partial


def hot_packet(bench: Bench) -> None:
    """C: everyone claims from one packet of a million shares (fewer in the quick plan)."""
    world = bench.world("hot", packets=1, shares=bench.plan.hot_shares)
    walk = Walk(packets=world.packets, hands=bench.plan.hot_shares)
    for number, server in bench.rounds(_taking_part(bench, bench.servers, GO), bench.plan.costly_rounds):
        bench.run(world, server, _trial(bench, "C", walk, 256), number)


def _taking_part(bench: Bench, of: Sequence[Server], *only: Server) -> list[Server]:
    """Those ``of`` some that can run. If ``only`` has some: ours and those."""
    return [server for server in bench.servers if server in of and (not only or server in (OURS, *only))]


def _fewer(bench: Bench, rounds: int) -> int:
    """How many rounds the scattered form has where A has ``rounds``."""
    return min(rounds, bench.plan.scattered_rounds)


def _trial(
    bench: Bench, workload: str, walk: Walk, connections: int, variant: Variant = ALONE, *, all_win: bool = True
) -> Trial:
    plan = bench.plan
    return Trial(
        workload=workload,
        walk=walk,
        connections=connections,
        duration_s=plan.seconds,
        warm_up_s=plan.warm_up_s,
        all_win=all_win,
        appendfsync=variant.appendfsync,
        variant=variant,
    )
