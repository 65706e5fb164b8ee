"""Claims that leave together: orders of several backends in one call, each with its own part of the answers."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.claiming.batches import Answer, Joined, Order, Singles, next_batch
from engine.errors import UnavailableError
from engine.records import ClaimResult, Outcome
from tests.support.batching import WatchedStore, batcher_of
from tests.support.lane import EPOCH, LANE, Lane, lane_on
from tests.support.waiting import wait_until


async def results(*orders: asyncio.Future[Sequence[Answer]]) -> list[list[ClaimResult]]:
    """What all of them are answered, none with an error for a claim."""
    answered = await asyncio.wait_for(asyncio.gather(*orders), 30)
    return [[answer for answer in answers if isinstance(answer, ClaimResult)] for answers in answered]


@pytest.fixture
async def lane(redis_url: str) -> AsyncIterator[Lane]:
    async with lane_on(redis_url) as fresh:
        yield fresh


@pytest.fixture
def store(lane: Lane) -> WatchedStore:
    return WatchedStore(lane.client, {LANE: EPOCH})


async def test_orders_that_wait_go_in_one_call_and_each_has_its_own_answers(lane: Lane, store: WatchedStore) -> None:
    first, second = await lane.open([1, 2, 3, 4, 5]), await lane.open([6, 7])
    batcher = batcher_of(store, calls_max=1)
    store.gate.clear()
    ahead = batcher.claim_all({first: ["ada"]})
    await wait_until(lambda: store.in_flight == 1, what="a call under way")
    orders = [
        batcher.claim_all({first: ["bob", "ada"], second: ["ada"]}),
        batcher.claim_all({second: ["bob", "eve"]}),
        batcher.claim_all({second: ["ada"], first: ["eve", "bob"]}),
    ]
    store.gate.set()
    told = await results(ahead, *orders)
    assert [[(answer.outcome.value, answer.amount_fen) for answer in answers] for answers in told] == [
        [("C", 1)],
        [("C", 2), ("A", 1), ("C", 6)],
        [("C", 7), ("E", 0)],
        [("A", 6), ("C", 3), ("A", 2)],
    ]
    assert store.calls == [
        {first: ["ada"]},
        {first: ["bob", "ada", "eve", "bob"], second: ["ada", "bob", "eve", "ada"]},
    ]


async def test_orders_are_joined_up_to_a_calls_bound_and_in_their_order(lane: Lane, store: WatchedStore) -> None:
    packet = await lane.open([1] * 100)
    batcher = batcher_of(store, calls_max=1, per_call_max=10)
    store.gate.clear()
    asked = [
        batcher.claim_all({packet: [f"{number}-{place}" for place in range(size)]})
        for number, size in enumerate([1, 4, 6, 1, 12, 2])
    ]
    single = batcher.claim(packet, "alone")
    later = batcher.claim_all({packet: ["last"]})
    store.gate.set()
    await results(*asked, later)
    assert (await single).outcome is Outcome.CLAIMED
    assert store.sizes == [5, 7, 12, 2, 1, 1]  # 12 came as one, and goes as one; the single claim keeps its turn
    assert [user for call in store.calls for user in call[packet]][-4:] == ["5-0", "5-1", "alone", "last"]


async def test_an_order_that_nobody_waits_for_any_more_spoils_no_other(lane: Lane, store: WatchedStore) -> None:
    packet = await lane.open([1, 2, 3])
    batcher = batcher_of(store, calls_max=1)
    store.gate.clear()
    ahead = batcher.claim_all({packet: ["ada"]})
    gone, stays = batcher.claim_all({packet: ["bob"]}), batcher.claim_all({packet: ["eve"]})
    gone.cancel()
    store.gate.set()
    assert [answer.amount_fen for answers in await results(ahead, stays) for answer in answers] == [1, 3]


async def test_an_error_of_the_call_is_every_orders(lane: Lane, store: WatchedStore) -> None:
    packet = await lane.open([1, 2, 3])
    batcher = batcher_of(store, calls_max=1)
    store.gate.clear()
    ahead = batcher.claim_all({packet: ["ada"]})
    await wait_until(lambda: store.in_flight == 1, what="a call under way")
    orders = [batcher.claim_all({packet: ["bob"]}), batcher.claim_all({packet: ["eve"]})]
    await store.fence(LANE)
    store.gate.set()
    failed = await asyncio.gather(ahead, *orders, return_exceptions=True)
    assert [isinstance(error, UnavailableError) for error in failed] == [True] * 3


PACKETS = st.dictionaries(
    st.sampled_from(["1", "2", "3"]), st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4), min_size=1
)


@given(st.lists(PACKETS, min_size=1, max_size=6), st.sets(st.integers(0, 71)))
async def test_whatever_is_joined_each_answer_goes_to_who_asked(
    asked: list[dict[str, list[str]]], early: set[int]
) -> None:
    """Those at some places are answered first. Each is answered with its own place."""
    orders = [Order(one, sum(map(len, one.values()))) for one in asked]
    joined = Joined(orders)
    claims = [(packet, user) for packet, users in joined.asked.items() for user in users]
    assert len(claims) == joined.size
    answers = {place: ClaimResult(Outcome.CLAIMED, place) for place in range(joined.size)}
    joined.resolve_some({place: answer for place, answer in answers.items() if place in early})
    joined.resolve_some({place: answer for place, answer in answers.items() if place not in early})
    told = [[answer.amount_fen for answer in one] for one in await results(*(order.answer for order in orders))]
    for one, places in zip(asked, told, strict=True):
        assert [claims[place] for place in places] == [
            (packet, user) for packet, users in one.items() for user in users
        ]
    assert sorted(place for places in told for place in places) == list(answers)  # nobody's was given twice


async def test_a_single_claim_is_not_joined_with_an_order() -> None:
    singles, order = Singles(), Order({"1": ["a"]}, 1)
    waiting: deque[Singles | Order] = deque([order, singles, order])
    assert next_batch(waiting, 10, 10) is order
    assert next_batch(waiting, 10, 10) is singles
    assert next_batch(waiting, 10, 10) is order


CLAIMS = st.lists(st.tuples(st.sampled_from(["1", "2", "3"]), st.sampled_from("abcdef")), min_size=2, max_size=30)


@given(CLAIMS, st.data())
async def test_however_single_claims_are_shared_out_each_answer_goes_to_who_asked(
    claims: list[tuple[str, str]], data: st.DataObject
) -> None:
    """They come while others leave. Each packet's claims stay in their order."""
    told: list[tuple[tuple[str, str], object]] = []
    waiting: deque[Singles | Order] = deque()
    parts: list[Singles] = []

    def tell(claim: tuple[str, str], result: ClaimResult | Exception) -> None:
        assert isinstance(result, ClaimResult)
        told.append((claim, result.amount_fen))

    def leave() -> None:
        most = data.draw(st.integers(1, 10))
        part = next_batch(waiting, 30, most)
        assert isinstance(part, Singles)
        assert part.size == sum(map(len, part.asked.values())) <= most
        parts.append(part)

    adding = Singles()
    for claim in claims:
        if not waiting or data.draw(st.booleans()):  # as if the last ones had been shared out
            adding = Singles()
            waiting.append(adding)
        adding.add(*claim, partial(tell, claim))
        if data.draw(st.booleans()):
            leave()
            adding = Singles()
            waiting.append(adding)
        waiting = deque(one for one in waiting if one.size)
    while waiting:
        leave()
    asked = [(packet, user) for part in parts for packet, users in part.asked.items() for user in users]
    for packet in {packet for packet, _ in claims}:
        assert [claim for claim in asked if claim[0] == packet] == [claim for claim in claims if claim[0] == packet]
    place = 0
    for part in parts:
        part.resolve([ClaimResult(Outcome.CLAIMED, place + number) for number in range(part.size)])
        place += part.size
    assert told == [(claim, place) for place, claim in enumerate(asked)]


async def test_what_is_left_goes_before_what_came_after_it() -> None:
    left, later, order = Singles(), Singles(), Order({"1": ["z"]}, 1)
    for packet, user in (("1", "a"), ("2", "b"), ("3", "c")):
        left.add(packet, user, lambda _: None)
    for packet, user in (("1", "d"), ("3", "e")):
        later.add(packet, user, lambda _: None)
    waiting: deque[Singles | Order] = deque([left, later, order])
    assert next_batch(waiting, 10, 1).asked == {"1": ["a"]}
    assert next_batch(waiting, 10, 3).asked == {"2": ["b"], "3": ["c"], "1": ["d"]}
    assert next_batch(waiting, 10, 3).asked == {"3": ["e"]}
    assert next_batch(waiting, 10, 3) is order
