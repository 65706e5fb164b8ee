"""Which claims a batcher takes while more come than Redis answers: those that will be answered soon."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from engine import batcher as batching
from engine.batcher import Batcher
from engine.errors import OverloadedError
from engine.records import ClaimResult, Outcome
from engine.settings import Settings
from tests.lane import EPOCH, LANE, Lane, lane_on, users
from tests.test_batcher import WatchedStore
from tests.waiting import wait_until

PER_CALL_MAX = 10
WAIT_MS_MAX = 40


class Clock:
    """The time by which a batcher judges how long its claims have waited."""

    now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s

    @staticmethod
    def perf_counter() -> float:
        return 0.0


@pytest.fixture
async def lane(redis_url: str) -> AsyncIterator[Lane]:
    async with lane_on(redis_url) as fresh:
        yield fresh


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(batching, "time", clock)
    return clock


def batcher_of(store: WatchedStore, full_lanes: set[int], *, queue_max: int = 1_000) -> Batcher:
    settings = Settings.model_construct(
        claims_per_call_max=PER_CALL_MAX,
        claim_queue_max=queue_max,
        calls_in_flight_max=1,
        backlog_max=10_000,
        claim_wait_ms_max=WAIT_MS_MAX,
    )
    return Batcher(store, LANE, settings, full_lanes)


async def held_up(batcher: Batcher, store: WatchedStore, packet: str) -> "asyncio.Future[ClaimResult]":
    """A call that does not come back before the gate is opened; what is asked from now on waits."""
    store.gate.clear()
    answer = batcher.claim(packet, "first")
    await wait_until(lambda: store.in_flight == 1)
    return answer


async def test_no_new_batch_begins_behind_one_that_has_waited_too_long(lane: Lane, clock: Clock) -> None:
    store, full_lanes = WatchedStore(lane.client, {LANE: EPOCH}), set[int]()
    packet, batcher = await lane.open([1] * 100), batcher_of(store, full_lanes)
    answers = [await held_up(batcher, store, packet)]
    hands = iter(users(99))
    answers += [batcher.claim(packet, next(hands)) for _ in range(PER_CALL_MAX)]
    clock.now_s += WAIT_MS_MAX / 1000
    answers += [batcher.claim(packet, next(hands)) for _ in range(PER_CALL_MAX)]  # not yet too long
    assert full_lanes == set()
    clock.now_s += 0.001
    for _ in range(3):
        with pytest.raises(OverloadedError):
            batcher.claim(packet, "refused")
    with pytest.raises(OverloadedError):
        batcher.claim_all({packet: ["refused"]})
    assert full_lanes == {LANE}
    store.gate.set()
    assert {answer.outcome for answer in await asyncio.gather(*answers)} == {Outcome.CLAIMED}
    assert full_lanes == set()
    assert (await batcher.claim(packet, next(hands))).outcome is Outcome.CLAIMED
    assert all("refused" not in call[packet] for call in store.calls)


async def test_a_few_claims_join_the_batch_that_waits_however_long_it_has(lane: Lane, clock: Clock) -> None:
    """A Redis that stops for a moment is no overload; what waits meanwhile goes in one call."""
    store, full_lanes = WatchedStore(lane.client, {LANE: EPOCH}), set[int]()
    packet, batcher = await lane.open([1] * 100), batcher_of(store, full_lanes)
    answers = [await held_up(batcher, store, packet)]
    for user in users(PER_CALL_MAX):
        answers.append(batcher.claim(packet, user))
        clock.now_s += 1
    assert full_lanes == set()
    store.gate.set()
    assert {answer.outcome for answer in await asyncio.gather(*answers)} == {Outcome.CLAIMED}


async def test_a_lane_is_full_until_the_oldest_that_waits_is_young_again(lane: Lane, clock: Clock) -> None:
    store, full_lanes = WatchedStore(lane.client, {LANE: EPOCH}), set[int]()
    packet, batcher = await lane.open([1] * 100), batcher_of(store, full_lanes)
    await held_up(batcher, store, packet)
    hands = iter(users(99))
    for _ in range(3):
        for _ in range(PER_CALL_MAX):
            batcher.claim(packet, next(hands))
        clock.now_s += 0.015
    with pytest.raises(OverloadedError):
        batcher.claim(packet, "refused")
    assert full_lanes == {LANE}
    store.gate.set()
    await asyncio.sleep(0)
    store.gate.clear()  # the call that was under way passes; the next one, which takes the oldest, waits again
    await wait_until(lambda: len(store.calls) == 2)
    assert full_lanes == set()
    store.gate.set()
    await batcher.close()


async def test_a_lane_whose_queue_is_full_is_full_until_there_is_room(lane: Lane, clock: Clock) -> None:
    store, full_lanes = WatchedStore(lane.client, {LANE: EPOCH}), set[int]()
    packet, batcher = await lane.open([1] * 100), batcher_of(store, full_lanes, queue_max=5)
    await held_up(batcher, store, packet)
    for user in users(5):
        batcher.claim(packet, user)
    with pytest.raises(OverloadedError):
        batcher.claim(packet, "refused")
    assert full_lanes == {LANE}
    store.gate.set()
    await batcher.close()
    assert full_lanes == set()


async def test_an_order_larger_than_the_queue_does_not_fill_the_lane(lane: Lane) -> None:
    """Nothing waits, so nothing would ever free it."""
    store, full_lanes = WatchedStore(lane.client, {LANE: EPOCH}), set[int]()
    packet, batcher = await lane.open([1] * 100), batcher_of(store, full_lanes, queue_max=5)
    with pytest.raises(OverloadedError):
        batcher.claim_all({packet: users(6)})
    assert full_lanes == set()
    assert (await batcher.claim(packet, "ada")).outcome is Outcome.CLAIMED
