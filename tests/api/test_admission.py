"""Which claims a batcher takes while more come than Redis answers: those that will be answered soon."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from itertools import count

import pytest

from engine.claiming import batcher as batching
from engine.claiming.batcher import CLAIM_S_FIRST, Batcher
from engine.errors import OverloadedError
from engine.records import ClaimResult, Outcome
from engine.settings import Settings
from tests.support.batching import WatchedStore
from tests.support.lane import EPOCH, LANE, Lane, acks_of, lane_on, users
from tests.support.waiting import wait_until

AHEAD_MAX = 200
"""How many claims may be ahead of one at first, with ``WAIT_MS_MAX``."""
WAIT_MS_MAX = round(AHEAD_MAX * CLAIM_S_FIRST * 1_000)
PER_CALL_MAX = 100


class Clock:
    """The time by which a batcher judges what its calls cost."""

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
def store(lane: Lane) -> WatchedStore:
    return WatchedStore(lane.client, {LANE: EPOCH})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(batching, "time", clock)
    return clock


def batcher_of(
    store: WatchedStore, full_lanes: set[int], *, wait_ms_max: int = WAIT_MS_MAX, queue_max: int = 10_000
) -> Batcher:
    settings = Settings.model_construct(
        claims_per_call_max=PER_CALL_MAX,
        claim_queue_max=queue_max,
        calls_in_flight_max=1,
        backlog_max=100_000,
        claim_wait_ms_max=wait_ms_max,
    )
    return Batcher(store, LANE, settings, full_lanes, acks_of(store, settings))


async def fill(batcher: Batcher, store: WatchedStore, packet: str) -> "list[asyncio.Future[ClaimResult]]":
    """Hold Redis up and claim until a claim is refused; those that were taken."""
    store.gate.clear()
    taken = [batcher.claim(packet, "first")]
    await wait_until(lambda: store.in_flight == 1)
    with suppress(OverloadedError):
        taken.extend(batcher.claim(packet, f"user{number}") for number in count())
    return taken


async def test_what_is_taken_is_what_can_be_answered_in_time(lane: Lane, store: WatchedStore) -> None:
    full_lanes = set[int]()
    packet, batcher = await lane.open([1] * 1_000), batcher_of(store, full_lanes)
    taken = await fill(batcher, store, packet)
    assert len(taken) == AHEAD_MAX
    assert full_lanes == {LANE}
    for _ in range(3):
        with pytest.raises(OverloadedError):
            batcher.claim(packet, "refused")
        with pytest.raises(OverloadedError):
            batcher.claim_all({packet: ["refused"]})
    store.gate.set()
    assert {answer.outcome for answer in await asyncio.gather(*taken)} == {Outcome.CLAIMED}
    await wait_until(lambda: full_lanes == set(), what="the lane having room")
    assert (await batcher.claim(packet, "late")).outcome is Outcome.CLAIMED
    assert all("refused" not in call[packet] for call in store.calls)


async def test_a_lane_is_full_until_enough_is_answered(lane: Lane, store: WatchedStore) -> None:
    full_lanes = set[int]()
    packet, batcher = await lane.open([1] * 1_000), batcher_of(store, full_lanes)
    taken = await fill(batcher, store, packet)
    assert full_lanes == {LANE}
    store.gate.set()
    await asyncio.sleep(0)
    store.gate.clear()  # the call that was under way passes; the next one waits again
    await taken[0]
    await wait_until(lambda: len(store.calls) == 2)
    assert full_lanes == set()
    taken.append(batcher.claim(packet, "in its place"))
    with pytest.raises(OverloadedError):
        batcher.claim(packet, "refused")
    store.gate.set()
    assert {answer.outcome for answer in await asyncio.gather(*taken)} == {Outcome.CLAIMED}


async def test_a_few_are_always_taken(lane: Lane, store: WatchedStore) -> None:
    """However slow Redis seems to be: as many as go in one call."""
    packet, batcher = await lane.open([1] * 1_000), batcher_of(store, set(), wait_ms_max=1)
    taken = await fill(batcher, store, packet)
    assert len(taken) == PER_CALL_MAX
    store.gate.set()
    await asyncio.gather(*taken)


async def test_whoever_asks_again_with_his_answer_in_hand_is_not_kept_out_by_his_last_claim(
    lane: Lane, store: WatchedStore
) -> None:
    """As many as are always taken, each with one claim at a time."""
    packet, batcher = await lane.open([1] * 1_000), batcher_of(store, set(), wait_ms_max=1)
    answers: list[ClaimResult | Exception] = []

    def ask_again(user: str, rounds_left: int, answer: ClaimResult | Exception | None = None) -> None:
        if answer is not None:
            answers.append(answer)
        if rounds_left:
            batcher.claim_for(packet, user, partial(ask_again, user, rounds_left - 1))

    for user in users(PER_CALL_MAX):
        ask_again(user, 5)
    await wait_until(lambda: len(answers) == 5 * PER_CALL_MAX, what="everybody's five answers")
    assert Counter(answers) == {ClaimResult(Outcome.CLAIMED, 1): 100, ClaimResult(Outcome.ALREADY, 1): 400}


async def test_an_order_is_taken_whenever_a_single_claim_is(lane: Lane, store: WatchedStore) -> None:
    packet, batcher = await lane.open([1] * 1_000), batcher_of(store, set())
    order = batcher.claim_all({packet: users(500)})
    with pytest.raises(OverloadedError):
        batcher.claim(packet, "refused")
    assert len(await order) == 500


async def test_slow_calls_let_fewer_in_and_fast_ones_more(lane: Lane, store: WatchedStore, clock: Clock) -> None:
    packet, batcher = await lane.open([1]), batcher_of(store, set(), wait_ms_max=60)
    hands = (f"hand{number}" for number in count())

    async def call(size: int, claim_s: float) -> None:
        """One call of so many claims that takes so long for each."""
        store.gate.clear()
        answers = [batcher.claim(packet, next(hands)) for _ in range(size)]
        await wait_until(lambda: store.in_flight == 1)
        clock.now_s += size * claim_s
        store.gate.set()
        await asyncio.gather(*answers)
        await wait_until(lambda: not batcher._calls)

    def room() -> int:
        return batcher._ahead_max

    at_first = room()
    assert at_first == pytest.approx(0.060 / CLAIM_S_FIRST, abs=1)
    await call(10, 1.0)
    assert room() == at_first, "a small call says little"
    await call(100, 1.0)
    assert at_first * 0.6 < room() < at_first, "one stop is no slow Redis"
    for _ in range(60):
        await call(100, 0.0002)
    assert room() == pytest.approx(0.060 / 0.0002, rel=0.05)
    for _ in range(60):
        await call(100, 0.00001)
    assert room() == pytest.approx(0.060 / 0.00001, rel=0.05)


async def test_a_queue_that_is_full_refuses_until_there_is_room(lane: Lane, store: WatchedStore) -> None:
    full_lanes = set[int]()
    packet, batcher = await lane.open([1] * 100), batcher_of(store, full_lanes, queue_max=5)
    taken = await fill(batcher, store, packet)
    assert len(taken) == 6
    assert full_lanes == {LANE}
    store.gate.set()
    await asyncio.gather(*taken)
    await wait_until(lambda: full_lanes == set(), what="the lane having room")


async def test_an_order_larger_than_the_queue_does_not_fill_the_lane(lane: Lane, store: WatchedStore) -> None:
    """Nothing is under way, so nothing would ever free it."""
    full_lanes = set[int]()
    packet, batcher = await lane.open([1] * 100), batcher_of(store, full_lanes, queue_max=5)
    with pytest.raises(OverloadedError):
        batcher.claim_all({packet: users(6)})
    assert full_lanes == set()
    assert (await batcher.claim(packet, "ada")).outcome is Outcome.CLAIMED
