"""The reads that go with the scripts, and what the store makes of errors. The scripts have tests of their own."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from engine.errors import RecoveringError, UnavailableError
from engine.ids import new_packet_number
from engine.lanes import keys
from engine.lanes.clients import command, redis_client
from engine.lanes.reader import LaneReader, LaneStatus, claim_row
from engine.lanes.replies import CloseReason
from engine.lanes.store import Store
from engine.lanes.topology import Topology
from engine.records import ClaimReply, ClaimResult, ClaimRow, Outcome, PacketState
from tests.support.lane import BACKLOG_MAX, EPOCH, FAR_FUTURE_MS, LANE, LONG_AGO_MS, Lane, chunk_of, users


@pytest.mark.long
async def test_results_come_in_the_order_asked_with_their_amounts(lane: Lane) -> None:
    first, second = await lane.open([5]), await lane.open([7, 9])
    asked = {second: ["ada", "bob"], new_packet_number(LANE): ["ada"], first: ["bob", "ada"]}
    reply = await lane.store.claim(LANE, asked, backlog_max=BACKLOG_MAX)
    assert reply.results == [
        ClaimResult(Outcome.CLAIMED, 7),
        ClaimResult(Outcome.CLAIMED, 9),
        ClaimResult(Outcome.MISSING, 0),
        ClaimResult(Outcome.CLAIMED, 5),
        ClaimResult(Outcome.EMPTY, 0),
    ]


async def test_asking_for_nothing_gets_nothing(lane: Lane) -> None:
    before = await lane.everything()
    assert await lane.store.claim(LANE, {}, backlog_max=BACKLOG_MAX) == ClaimReply([], 0, EPOCH, None)
    assert await lane.everything() == before


async def test_due_packets_come_oldest_first_and_no_more_than_asked(lane: Lane) -> None:
    later = await lane.open([5], expires_at_ms=LONG_AGO_MS + 2)
    first = await lane.open([5], expires_at_ms=LONG_AGO_MS)
    second = await lane.open([5], expires_at_ms=LONG_AGO_MS + 1)
    await lane.open([5], expires_at_ms=FAR_FUTURE_MS)
    assert await lane.store.due(LANE, LONG_AGO_MS - 1, 10) == []
    assert await lane.store.due(LANE, LONG_AGO_MS, 10) == [first]
    assert await lane.store.due(LANE, LONG_AGO_MS + 1, 10) == [first, second]
    assert await lane.store.due(LANE, FAR_FUTURE_MS - 1, 10) == [first, second, later]
    assert await lane.store.due(LANE, FAR_FUTURE_MS - 1, 2) == [first, second]


async def test_states_are_those_of_redis(lane: Lane) -> None:
    loading, unknown = new_packet_number(LANE), new_packet_number(LANE)
    await lane.store.open(chunk_of([5, 7], packet_id=loading, size=1), not_after_ms=FAR_FUTURE_MS)
    packet = await lane.open([5])
    assert await lane.store.states([loading, unknown, packet]) == ["loading", None, "open"]
    assert await lane.store.states([]) == []
    for number in (loading, unknown):
        assert await lane.store.counts(number) is None


async def test_what_is_held_is_what_the_other_reads_say(lane: Lane) -> None:
    loading, unknown = new_packet_number(LANE), new_packet_number(LANE)
    await lane.store.open(chunk_of([5, 7], packet_id=loading, size=1), not_after_ms=FAR_FUTURE_MS)
    packets = [await lane.open(amounts) for amounts in ([5, 9], [5], [3, 3, 3])]
    await lane.claim({packets[0]: ["ada"], packets[1]: ["bob", "ada"]})
    held = await lane.store.held([packets[0], unknown, packets[1], loading, packets[2]])
    assert (held[1], held[3]) == (None, None)
    for packet, found in zip(packets, (held[0], held[2], held[4]), strict=True):
        assert found is not None
        assert found.counts == await lane.store.counts(packet)
        assert found.given == await lane.store.claims(packet)
        assert found.left == [share async for share in lane.store.scan_shares(packet)]
    assert await lane.store.held([]) == []


async def test_counts_follow_the_claims(lane: Lane) -> None:
    packet = await lane.open([5, 9])
    await lane.claim({packet: ["ada"]})
    counts = await lane.store.counts(packet)
    assert counts is not None
    assert (counts.state, counts.count, counts.total_fen) == (PacketState.OPEN, 2, 14)
    assert (counts.remaining_count, counts.remaining_fen, counts.luckiest) == (1, 9, None)
    await lane.claim({packet: ["bob"]})
    counts, rows = await lane.store.counts(packet), await lane.store.claims(packet)
    assert counts is not None
    assert (counts.state, counts.remaining_count, counts.remaining_fen) == (PacketState.EXHAUSTED, 0, 0)
    assert counts.luckiest == rows[1]
    assert rows[1].user_id == "bob"


@pytest.mark.parametrize("count", [1, 100, 3_000])
async def test_claims_are_read_whole_in_slot_order_or_bit_by_bit(lane: Lane, count: int) -> None:
    packet = await lane.open([1] * count)
    hands = users(count)
    for start in range(0, count, 500):
        await lane.claim({packet: hands[start : start + 500]})
    rows = await lane.store.claims(packet)
    assert [(row.slot, row.user_id) for row in rows] == list(enumerate(hands))
    assert sorted([row async for row in lane.store.scan_claims(packet)], key=lambda row: row.slot) == rows


async def test_an_unknown_packet_has_no_claims(lane: Lane) -> None:
    assert await lane.store.claims(new_packet_number(LANE)) == []
    assert [row async for row in lane.store.scan_claims(new_packet_number(LANE))] == []


def test_a_row_with_a_colon_in_the_user() -> None:
    assert claim_row(b"a:b", b"3:500:1790000000000") == ClaimRow(
        user_id="a:b", amount_fen=500, slot=3, claimed_at_ms=1_790_000_000_000
    )


class TestLane:
    async def test_a_lane_is_begun_once(self, lane: Lane) -> None:
        packet = await lane.open([5, 7])
        await lane.claim({packet: ["ada"]})
        before = await lane.everything()
        await lane.store.begin_lane(LANE, "another")
        assert await lane.everything() == before
        assert await lane.store.lane_status(LANE) == LaneStatus(epoch=EPOCH, position=2, applied=0)

    async def test_a_lane_that_is_not_there(self, lane: Lane) -> None:
        assert await lane.store.lane_status(LANE + 1) is None

    async def test_a_fenced_lane_gives_nothing_until_its_epoch_is_back(self, lane: Lane) -> None:
        packet = await lane.open([5])
        await lane.store.fence(LANE)
        before = await lane.everything()
        with pytest.raises(RecoveringError):
            await lane.claim({packet: ["ada"]})
        with pytest.raises(RecoveringError):
            await lane.close(packet, CloseReason.RETRACTED)
        with pytest.raises(RecoveringError):
            await lane.open([5])
        assert await lane.everything() == before
        assert await lane.store.lane_status(LANE) == LaneStatus(epoch="", position=1, applied=0)
        await command(lane.client, "HSET", keys.lane(LANE), "epoch", EPOCH)
        assert await lane.claim({packet: ["ada"]}) == "C"

    async def test_fencing_a_lane_redis_has_lost_does_not_bring_it_back(self, lane: Lane) -> None:
        await command(lane.client, "DEL", keys.lane(LANE))
        await lane.store.fence(LANE)
        assert await lane.store.lane_status(LANE) is None

    async def test_a_lane_this_process_does_not_know_is_never_asked(self, lane: Lane) -> None:
        packet = await lane.open([5])
        with pytest.raises(RecoveringError):
            await Store(Topology.of_one(lane.client), {}).close(packet, CloseReason.RETRACTED)

    async def test_the_clock_is_rediss(self, lane: Lane) -> None:
        seconds, microseconds = await command(lane.client, "TIME")
        now_ms = await lane.store.now_ms(LANE)
        assert 0 <= now_ms - (int(seconds) * 1000 + int(microseconds) // 1000) < 5_000


CALLS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "open": lambda store: store.open(chunk_of([5], packet_id=new_packet_number(LANE)), not_after_ms=FAR_FUTURE_MS),
    "claim": lambda store: store.claim(LANE, {new_packet_number(LANE): ["ada"]}, backlog_max=1),
    "close": lambda store: store.close(new_packet_number(LANE), CloseReason.EXPIRED),
    "note_view": lambda store: store.note_view(
        new_packet_number(LANE), "ada", consents=False, not_after_ms=FAR_FUTURE_MS, named_max=1
    ),
    "extend": lambda store: store.extend(new_packet_number(LANE), FAR_FUTURE_MS),
    "due_count": lambda store: store.due_count(LANE, 1),
    "amounts_of": lambda store: store.amounts_of([new_packet_number(LANE)], "ada"),
    "frozen_version": lambda store: store.frozen_version(LANE),
    "freeze": lambda store: store.freeze(LANE, 0, 1, ["ada"], []),
    "limited_version": lambda store: store.limited_version(LANE),
    "limit": lambda store: store.limit(LANE, 0, 1, {"ada": FAR_FUTURE_MS}),
    "frozen": lambda store: store.frozen(LANE),
    "recipients": lambda store: store.recipients(new_packet_number(LANE)),
    "now_ms": lambda store: store.now_ms(LANE),
    "earliest_ms": lambda store: store.earliest_ms(),
    "due": lambda store: store.due(LANE, 0, 1),
    "lane_status": lambda store: store.lane_status(LANE),
    "begin_lane": lambda store: store.begin_lane(LANE, EPOCH),
    "fence": lambda store: store.fence(LANE),
    "states": lambda store: store.states([new_packet_number(LANE)]),
    "counts": lambda store: store.counts(new_packet_number(LANE)),
    "held": lambda store: store.held([new_packet_number(LANE)]),
    "claims": lambda store: store.claims(new_packet_number(LANE)),
    "claim_of": lambda store: store.claim_of(new_packet_number(LANE), "ada"),
    "scan_claims": lambda store: anext(store.scan_claims(new_packet_number(LANE))),
    "scan_shares": lambda store: anext(store.scan_shares(new_packet_number(LANE))),
}


@pytest.mark.parametrize("name", CALLS)
async def test_redis_that_does_not_answer_is_unavailable(name: str, tmp_path: Path) -> None:
    async with redis_client(f"unix://{tmp_path}/nobody.sock", connections_max=1, timeout_s=1.0) as client:
        with pytest.raises(UnavailableError, match="Redis does not answer"):
            await CALLS[name](Store(Topology.of_one(client), {LANE: EPOCH}))


def test_every_call_is_among_those() -> None:
    public = {name for name in {**vars(LaneReader), **vars(Store)} if not name.startswith("_")}
    asking_nothing = {"lend", "client_of", "by_server", "node_of_packet", "pause_server_of"}
    assert set(CALLS) == public - asking_nothing
