"""Group commit, on a real server: the store is the real one, watched and sometimes held back."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from engine.claiming.batcher import PACE_BELOW
from engine.claiming.batches import Deliver
from engine.errors import OverloadedError, RecoveringError, UnavailableError
from engine.lanes.clients import redis_client
from engine.lanes.store import Store
from engine.lanes.topology import Topology
from engine.observability import metrics
from engine.records import ClaimResult, Outcome
from tests.support.batching import WatchedStore, batcher_of
from tests.support.lane import EPOCH, LANE, Lane, lane_on, users
from tests.support.waiting import wait_until


@pytest.fixture
async def lane(redis_url: str) -> AsyncIterator[Lane]:
    async with lane_on(redis_url) as fresh:
        yield fresh


@pytest.fixture
def store(lane: Lane) -> WatchedStore:
    return WatchedStore(lane.client, {LANE: EPOCH})


async def test_what_one_turn_of_the_loop_asks_goes_in_one_call(lane: Lane, store: WatchedStore) -> None:
    first, second = await lane.open([5, 7, 9]), await lane.open([1])
    batcher = batcher_of(store)
    pairs = [(first, "ada"), (second, "ada"), (first, "bob"), (second, "bob"), (first, "ada")]

    async def ask(packet: str, user: str) -> ClaimResult:
        return await batcher.claim(packet, user)

    answers = await asyncio.gather(*(ask(*pair) for pair in pairs))
    assert [(answer.outcome.value, answer.amount_fen) for answer in answers] == [
        ("C", 5),
        ("C", 1),
        ("C", 7),
        ("E", 0),
        ("A", 5),
    ]
    assert store.calls == [{first: ["ada", "bob", "ada"], second: ["ada", "bob"]}]


async def test_a_lone_claim_does_not_wait_for_others(lane: Lane, store: WatchedStore) -> None:
    packet, batcher = await lane.open([5]), batcher_of(store)
    answer = batcher.claim(packet, "ada")
    await asyncio.sleep(0)  # one turn of the loop to send, one for the call to begin
    await asyncio.sleep(0)
    assert store.calls == [{packet: ["ada"]}]
    assert await answer == ClaimResult(Outcome.CLAIMED, 5)


@pytest.mark.parametrize("calls_max", [1, 2, 3])
async def test_what_arrives_meanwhile_goes_together_in_the_next_call(
    lane: Lane, store: WatchedStore, calls_max: int
) -> None:
    packet, batcher = await lane.open([1] * 100), batcher_of(store, calls_max=calls_max)
    store.gate.clear()
    answers = []
    for turn in range(20):
        answers.append(batcher.claim(packet, f"user{turn}"))
        await wait_until(lambda turn=turn: len(store.calls) == min(turn + 1, calls_max))  # type: ignore[misc]
    assert store.in_flight == calls_max
    store.gate.set()
    assert {answer.outcome for answer in await asyncio.gather(*answers)} == {Outcome.CLAIMED}
    assert store.sizes == [1] * calls_max + [20 - calls_max]
    assert store.in_flight_max == calls_max


async def test_a_call_has_no_more_claims_than_its_bound(lane: Lane, store: WatchedStore) -> None:
    packet, batcher = await lane.open([1] * 100), batcher_of(store, per_call_max=30)
    answers = await asyncio.gather(*(batcher.claim(packet, user) for user in users(100)))
    assert [answer.outcome for answer in answers] == [Outcome.CLAIMED] * 100
    assert store.sizes == [30, 30, 30, 10]
    assert store.in_flight_max == 2
    await lane.assert_consistent(packet, [1] * 100)


@pytest.mark.parametrize(
    ("calls_max", "count", "sizes"), [(1, 300, [300]), (2, 300, [150, 150]), (2, 301, [151, 150]), (2, 80, [64, 16])]
)
async def test_many_claims_are_shared_out_among_the_calls(
    lane: Lane, store: WatchedStore, calls_max: int, count: int, sizes: list[int]
) -> None:
    """One call for all would leave Redis idle while they are answered, and this process while Redis decides."""
    packets = [await lane.open([1] * 100) for _ in range(4)]
    batcher = batcher_of(store, calls_max=calls_max)
    asked = [(packets[number % 4], user) for number, user in enumerate(users(count))]
    answers = await asyncio.gather(*(batcher.claim(*one) for one in asked))
    assert [answer.outcome for answer in answers] == [Outcome.CLAIMED] * count
    assert store.sizes == sizes
    for packet in packets:
        await lane.assert_consistent(packet, [1] * 100)


async def test_a_call_takes_its_share_of_those_that_redis_has_too(lane: Lane, store: WatchedStore) -> None:
    packet, batcher = await lane.open([1] * 300), batcher_of(store)
    store.gate.clear()
    answers = [batcher.claim(packet, user) for user in users(30)]
    await wait_until(lambda: store.in_flight == 1, what="a call under way")
    answers += [batcher.claim(packet, user) for user in users(200, "more")]
    await wait_until(lambda: store.in_flight == 2, what="two calls under way")
    assert store.sizes == [30, 115]
    store.gate.set()
    assert {answer.outcome for answer in await asyncio.gather(*answers)} == {Outcome.CLAIMED}


async def test_no_later_claim_of_a_hot_packet_overtakes_an_earlier_one_of_another(
    lane: Lane, store: WatchedStore
) -> None:
    hot, other = await lane.open([1] * 600), await lane.open([1] * 5)
    batcher = batcher_of(store, calls_max=2)
    store.gate.clear()
    answers = [batcher.claim(hot, "first")]
    await wait_until(lambda: store.in_flight == 1, what="a call under way")
    answers += [batcher.claim(hot, user) for user in users(199)]
    answers.append(batcher.claim(other, "ada"))
    await wait_until(lambda: store.in_flight == 2, what="two calls under way")
    answers += [batcher.claim(hot, user) for user in users(300, "later")]
    store.gate.set()
    assert {answer.outcome for answer in await asyncio.gather(*answers)} == {Outcome.CLAIMED}
    ada_left = next(place for place, call in enumerate(store.calls) if other in call)
    assert ada_left == 2
    early = [user for call in store.calls[:3] for user in call.get(hot, [])]
    assert early[:200] == ["first", *users(199)]


async def test_a_full_queue_refuses_and_loses_nothing(lane: Lane, store: WatchedStore) -> None:
    packet, batcher = await lane.open([1] * 100), batcher_of(store, per_call_max=5, queue_max=10)
    store.gate.clear()
    answers = [batcher.claim(packet, user) for user in users(10)]
    await wait_until(lambda: store.in_flight == 2, what="two calls of five under way")
    answers += [batcher.claim(packet, user) for user in users(10, "more")]
    for _ in range(3):
        with pytest.raises(OverloadedError):
            batcher.claim(packet, "too late")
    store.gate.set()
    assert [answer.outcome for answer in await asyncio.gather(*answers)] == [Outcome.CLAIMED] * 20
    claimed = [row.user_id for row in await lane.store.claims(packet)]
    assert sorted(claimed) == sorted(users(10) + users(10, "more"))
    assert (await batcher.claim(packet, "too late")).outcome is Outcome.CLAIMED


@pytest.mark.parametrize("when", ["queued", "under way"])
async def test_a_client_that_goes_away_does_not_take_its_claim_back(lane: Lane, store: WatchedStore, when: str) -> None:
    packet, batcher = await lane.open([5, 7]), batcher_of(store)
    store.gate.clear()
    gone, stays = batcher.claim(packet, "gone"), batcher.claim(packet, "stays")
    if when == "under way":
        await wait_until(lambda: store.in_flight == 1)
    gone.cancel()
    store.gate.set()
    assert await stays == ClaimResult(Outcome.CLAIMED, 7)
    assert await batcher.claim(packet, "gone") == ClaimResult(Outcome.ALREADY, 5)


async def test_when_redis_fails_everybody_is_told(tmp_path: object) -> None:
    async with redis_client(f"unix://{tmp_path}/nobody.sock", connections_max=2, timeout_s=1.0) as client:
        batcher = batcher_of(Store(Topology.of_one(client), {LANE: EPOCH}), per_call_max=3)
        answers = [batcher.claim("1000700000000000000", user) for user in users(10)]
        answers[4].cancel()
        told = await asyncio.gather(*answers, return_exceptions=True)
        assert [type(answer) for answer in told] == [UnavailableError] * 4 + [asyncio.CancelledError] + [
            UnavailableError
        ] * 5
        await batcher.close()


async def test_after_a_failure_it_goes_on(lane: Lane) -> None:
    epochs = {LANE: "another"}
    packet, batcher = await lane.open([5]), batcher_of(Store(Topology.of_one(lane.client), epochs))
    with pytest.raises(RecoveringError):
        await batcher.claim(packet, "ada")
    epochs[LANE] = EPOCH
    assert await batcher.claim(packet, "ada") == ClaimResult(Outcome.CLAIMED, 5)


async def test_closing_answers_all_and_then_refuses(lane: Lane, store: WatchedStore) -> None:
    packet, batcher = await lane.open([1] * 50), batcher_of(store, per_call_max=5)
    answers = [batcher.claim(packet, user) for user in users(50)]
    closing = asyncio.create_task(batcher.close())
    await wait_until(lambda: bool(store.calls), what="closing being under way")
    with pytest.raises(UnavailableError):
        batcher.claim(packet, "late")
    await closing
    assert all(answer.done() for answer in answers)
    assert [answer.result().outcome for answer in answers] == [Outcome.CLAIMED] * 50
    assert store.in_flight_max == 2
    await batcher.close()


async def test_each_answer_is_delivered_once_whatever_becomes_of_the_others(lane: Lane, store: WatchedStore) -> None:
    """As to connections, some of which are gone."""
    packet, batcher = await lane.open([5, 7, 9]), batcher_of(store)
    delivered: list[tuple[str, ClaimResult | Exception]] = []

    def deliver_to(user: str) -> Deliver:
        def deliver(answer: ClaimResult | Exception) -> None:
            delivered.append((user, answer))
            if user in ("bob", "eve"):
                raise ConnectionError(user)

        return deliver

    hands = ["ada", "bob", "ada", "eve", "dan"]
    with capture_logs() as logs:
        for user in hands:
            batcher.claim_for(packet, user, deliver_to(user))
        assert delivered == []  # never before it has returned
        await batcher.close()
    given = {"ada": (Outcome.CLAIMED, 5), "bob": (Outcome.CLAIMED, 7), "eve": (Outcome.CLAIMED, 9)}
    expected = [(user, ClaimResult(*given.get(user, (Outcome.EMPTY, 0)))) for user in hands]
    expected[2] = ("ada", ClaimResult(Outcome.ALREADY, 5))
    assert delivered == expected
    assert [log["log_level"] for log in logs] == ["error"] * 2


async def test_a_failure_is_delivered_to_all_and_a_refusal_to_none(lane: Lane) -> None:
    fenced = Store(Topology.of_one(lane.client), {LANE: "another"})
    packet, batcher = await lane.open([5]), batcher_of(fenced, queue_max=3)
    delivered: list[ClaimResult | Exception] = []
    for user in users(3):
        batcher.claim_for(packet, user, delivered.append)
    with pytest.raises(OverloadedError):
        batcher.claim_for(packet, "too late", delivered.append)
    await batcher.close()
    assert [type(answer) for answer in delivered] == [RecoveringError] * 3


async def test_closing_an_idle_one_returns_at_once(store: WatchedStore) -> None:
    await batcher_of(store).close()
    assert store.calls == []


async def test_one_user_two_hundred_times_at_once_gets_one_share(lane: Lane, store: WatchedStore) -> None:
    packet = await lane.open([5, 7, 9])
    batchers = [batcher_of(store, per_call_max=7) for _ in range(2)]
    answers = await asyncio.gather(*(batchers[turn % 2].claim(packet, "ada") for turn in range(200)))
    assert [answer.amount_fen for answer in answers] == [5] * 200
    assert sum(answer.outcome is Outcome.CLAIMED for answer in answers) == 1
    assert sum(answer.outcome is Outcome.ALREADY for answer in answers) == 199
    await lane.assert_consistent(packet, [5, 7, 9])


async def test_the_backlogs_bound_is_the_settings(lane: Lane, store: WatchedStore) -> None:
    packet, batcher = await lane.open([1] * 5), batcher_of(store, backlog_max=3)
    answers = await asyncio.gather(*(batcher.claim(packet, user) for user in users(4)))
    assert "".join(answer.outcome.value for answer in answers) == "CCBB"


async def test_answers_are_counted_by_outcome(lane: Lane, store: WatchedStore) -> None:
    def counted() -> dict[str, float]:
        (family,) = metrics.CLAIMS.collect()
        return {sample.labels["outcome"]: sample.value for sample in family.samples if sample.name.endswith("_total")}

    before = counted()
    packet, batcher = await lane.open([1]), batcher_of(store)
    await asyncio.gather(*(batcher.claim(packet, user) for user in ("ada", "ada", "bob", "eve")))
    more = {outcome: count - before.get(outcome, 0) for outcome, count in counted().items()}
    assert {outcome: count for outcome, count in more.items() if count} == {"claimed": 1, "already": 1, "empty": 2}


async def test_few_claims_soon_after_a_call_wait_and_go_together(
    lane: Lane, store: WatchedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.claiming.batcher.PACE_S", 3_600.0)
    packet, batcher = await lane.open([1] * 100), batcher_of(store)
    assert (await batcher.claim(packet, "first")).outcome is Outcome.CLAIMED
    answers = []
    for user in users(PACE_BELOW - 1):
        answers.append(batcher.claim(packet, user))
        await asyncio.sleep(0)  # each in a turn of the loop of its own
    assert store.sizes == [1]
    answers.append(batcher.claim(packet, "last"))
    assert {answer.outcome for answer in await asyncio.gather(*answers)} == {Outcome.CLAIMED}
    assert store.sizes == [1, PACE_BELOW]


async def test_the_first_claim_does_not_wait_where_the_clock_has_just_begun(
    lane: Lane, store: WatchedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop's clock begins when the machine starts: nought is a moment of it, and no call was then."""
    begun_s = time.monotonic()
    monkeypatch.setattr("engine.claiming.batcher.PACE_S", 3_600.0)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: time.monotonic() - begun_s)
    packet, batcher = await lane.open([5]), batcher_of(store)
    assert (await asyncio.wait_for(batcher.claim(packet, "ada"), 20)).outcome is Outcome.CLAIMED


async def test_few_claims_wait_no_longer_than_the_pace(lane: Lane, store: WatchedStore) -> None:
    packet, batcher = await lane.open([1] * 100), batcher_of(store)
    for user in users(20):
        assert (await batcher.claim(packet, user)).outcome is Outcome.CLAIMED
    assert store.sizes == [1] * 20


async def test_closing_sends_what_waits_for_its_turn(
    lane: Lane, store: WatchedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.claiming.batcher.PACE_S", 3_600.0)
    packet, batcher = await lane.open([1] * 100), batcher_of(store)
    await batcher.claim(packet, "first")
    waiting = batcher.claim(packet, "second")
    await batcher.close()
    assert (await waiting).outcome is Outcome.CLAIMED
