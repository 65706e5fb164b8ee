"""How soon the limit of a day stops those who reach it: 100,000 at once, from the ledger's commit to every lane.

Their claims wait in the stream, and the persister books them as fast as it can beside the sweeper. The limit is smaller
than any share, so each of them reaches it with the first.
"""

import time
from typing import Any, NamedTuple

import numpy as np
from redis import Redis

from benchmarks.rig import books, processes
from benchmarks.rig.bench import Bench
from benchmarks.rig.runs import FAILURES, BooksWrongError
from benchmarks.rig.stage import Stage, wait
from benchmarks.rig.world import World, positions
from engine.engine import Engine
from engine.lanes import keys
from engine.records import ClaimResult, Outcome

SHARES, CLAIMS_PER_CALL = 100, 500
_SAMPLE_S, _LONGEST_S = 0.002, 60.0


class Sample(NamedTuple):
    """At a moment: how many of the claims were in the ledger, and how many users every lane refused."""

    at_s: float
    booked: int
    limited: int


def limits(bench: Bench) -> None:
    """Fill the stream once; then, round by round, book it and watch the lanes."""
    stage, people = bench.stage, bench.plan.limited_people
    world = bench.world("limits", packets=people // SHARES, shares=SHARES)
    filled = _filled(stage, world, people)
    rounds: list[dict[str, Any]] = []
    try:
        for number in range(1, bench.plan.costly_rounds + 1):
            try:
                rounds.append(_round(stage, filled, people))
            except FAILURES as error:
                rounds.append({"void": f"{type(error).__name__}: {error}"})
            finally:
                stage.redis.stop()
            bench.say(f"LIMITS         round {number} {rounds[-1]}")
    finally:
        stage.drop_database(filled.database)
    bench.others["limits"] = {"people": people, "rounds": rounds}


def _filled(stage: Stage, world: World, people: int) -> World:
    """A world in whose stream the claims wait: each user has claimed one share."""
    stage.redis.start(world.snapshot)
    database = stage.create_database(world.database)
    books.compare(stage, database)
    wait(_claim(stage, world, database, people))
    snapshot = stage.folder / "limits.rdb"
    stage.redis.save(snapshot)
    stage.redis.stop()
    return World(packets=world.packets, shares=world.shares, probe=world.probe, snapshot=snapshot, database=database)


async def _claim(stage: Stage, world: World, database: str, people: int) -> None:
    async with Engine.open(stage.settings(database)) as engine:
        asked = [(world.packets[number // SHARES], f"user-{number}") for number in range(people)]
        for first in range(0, people, CLAIMS_PER_CALL):
            answers = await engine.claims.claim_many(asked[first : first + CLAIMS_PER_CALL])
            for answer in answers:
                if not isinstance(answer, ClaimResult) or answer.outcome is not Outcome.CLAIMED:
                    raise BooksWrongError(f"a claim did not win while the stream was filled: {answer}")


def _round(stage: Stage, filled: World, people: int) -> dict[str, Any]:
    stage.redis.start(filled.snapshot)
    database = stage.create_database(filled.database)
    variables = stage.variables(database) | {"HONGBAO_PERSON_DAY_RECEIVED_FEN_MAX": "1"}
    sweeper = processes.hongbao("sweep", variables=variables, cwd=stage.folder)
    try:
        processes.settle(sweeper)
        persister = processes.hongbao("persist", variables=variables, cwd=stage.folder)
        try:
            with stage.redis.client() as client:
                samples = _watch(client, filled, people)
        finally:
            processes.stop(persister)
    finally:
        processes.stop(sweeper)
    if problems := books.ours(stage, database):
        raise BooksWrongError("; ".join(problems))
    stage.drop_database(database)
    return found(samples, people)


def _watch(client: Redis, filled: World, people: int) -> list[Sample]:
    """Samples until every lane refuses everybody."""
    emitted = positions(client, filled.lanes)[0]
    samples: list[Sample] = []
    started_s = time.monotonic()
    while not samples or samples[-1].limited < people:
        at_s = time.monotonic() - started_s
        if at_s > _LONGEST_S:
            raise processes.NotStartedError(f"after {at_s:.0f} s {samples[-1]}")
        booked = people - (emitted - positions(client, filled.lanes)[1])
        limited = min(int(client.hlen(keys.limited(lane))) for lane in filled.lanes)
        samples.append(Sample(at_s, booked, limited))
        time.sleep(_SAMPLE_S)
    return samples


def found(samples: list[Sample], people: int) -> dict[str, Any]:
    """How long the n-th user to be refused came after the n-th claim in the ledger, in seconds.

    Both follow the order of the ledger's entries but for a page of the sweeper's.
    """
    at_s, booked, limited = (np.array(column) for column in zip(*samples, strict=True))
    booked_s, limited_s = (at_s[np.searchsorted(count, np.arange(people), "right")] for count in (booked, limited))
    lags = np.sort(limited_s - booked_s).tolist()
    return {
        "median_s": lags[people // 2],
        "p99_s": lags[people * 99 // 100],
        "max_s": lags[-1],
    }
