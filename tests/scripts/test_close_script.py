"""close.lua on a standalone and on a cluster-enabled server."""

import asyncio

import pytest
from redis.exceptions import ResponseError

from engine.errors import RecoveringError, UnavailableError
from engine.events import ClosedEvent
from engine.ids import new_packet_number
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.replies import Closed, CloseReason
from engine.lanes.store import ANY_TIME_MS
from engine.records import PacketState
from tests.support.lane import EPOCH, FAR_FUTURE_MS, LANE, LONG_AGO_MS, Lane, chunk_of, users

EXPIRED, RETRACTED = CloseReason.EXPIRED, CloseReason.RETRACTED


async def closings(lane: Lane) -> list[ClosedEvent]:
    return [event for event in await lane.events() if isinstance(event, ClosedEvent)]


async def assert_ended(lane: Lane, packet_id: str, state: str) -> None:
    assert await lane.store.states([packet_id]) == [state]
    assert packet_id not in await lane.due()
    assert not await command(lane.client, "EXISTS", keys.shares(packet_id))


@pytest.mark.parametrize(("taken", "left", "left_fen"), [(0, 4, 24), (1, 3, 19), (3, 1, 3)])
async def test_time_out_gives_back_exactly_the_rest(lane: Lane, taken: int, left: int, left_fen: int) -> None:
    packet, other = await lane.open([5, 7, 9, 3]), await lane.open([1])
    if taken:
        await lane.claim({packet: users(taken)})
    await lane.run_out(packet)
    before_ms = await lane.store.now_ms(LANE)
    assert await lane.close(packet) == (Closed.CLOSED, left, left_fen)
    (event,) = await closings(lane)
    assert (event.packet_id, event.reason, event.remaining_count, event.remaining_fen) == (
        packet,
        PacketState.EXPIRED,
        left,
        left_fen,
    )
    assert before_ms <= event.at_ms <= await lane.store.now_ms(LANE)
    await assert_ended(lane, packet, "expired")
    assert await lane.due() == [other]
    await lane.assert_consistent(packet, [5, 7, 9, 3])
    await lane.assert_contiguous()


async def test_the_sender_takes_back_what_nobody_has_touched(lane: Lane) -> None:
    packet = await lane.open([5, 7, 9])
    assert await lane.close(packet, RETRACTED) == (Closed.CLOSED, 3, 21)
    (event,) = await closings(lane)
    assert (event.packet_id, event.reason, event.remaining_count, event.remaining_fen) == (
        packet,
        PacketState.RETRACTED,
        3,
        21,
    )
    await assert_ended(lane, packet, "retracted")


@pytest.mark.parametrize("first", [EXPIRED, RETRACTED])
@pytest.mark.parametrize("second", [EXPIRED, RETRACTED])
async def test_a_packet_ends_once(lane: Lane, first: CloseReason, second: CloseReason) -> None:
    packet = await lane.open([5, 7], expires_at_ms=LONG_AGO_MS)
    assert await lane.close(packet, first) == (Closed.CLOSED, 2, 12)
    before = await lane.everything()
    assert await lane.close(packet, second) == (Closed.ENDED, 0, 0)
    names = [keys.packet(packet), keys.shares(packet)]
    assert await lane.call("close", names, [EPOCH, packet, second.value, ANY_TIME_MS, 5_000]) == [
        b"ENDED",
        first.value.encode(),
    ]
    assert await lane.everything() == before


async def test_an_exhausted_packet_has_ended(lane: Lane) -> None:
    packet = await lane.open([5])
    await lane.claim({packet: ["ada"]})
    await lane.run_out(packet)
    before = await lane.everything()
    for reason in (EXPIRED, RETRACTED):
        names = [keys.packet(packet), keys.shares(packet)]
        assert await lane.call("close", names, [EPOCH, packet, reason.value, ANY_TIME_MS, 5_000]) == [
            b"ENDED",
            b"exhausted",
        ]
    assert await lane.everything() == before


async def test_before_its_time_it_is_not_due(lane: Lane) -> None:
    packet = await lane.open([5, 7])
    before = await lane.everything()
    assert await lane.close(packet) == (Closed.NOT_DUE, 0, 0)
    assert await lane.everything() == before
    assert await lane.claim({packet: ["ada"]}) == "C"


async def test_it_is_due_at_expires_at_and_not_before(lane: Lane) -> None:
    """Ask all the time: a claim wins until the moment from which closing does."""
    expires_at_ms = await lane.store.now_ms(LANE) + 50
    packet, answers, asked_at_ms = await lane.open([1] * 5_000, expires_at_ms=expires_at_ms), "", 0
    while (await lane.close(packet))[0] is Closed.NOT_DUE:
        assert asked_at_ms < expires_at_ms
        answers += await lane.claim({packet: [f"user{len(answers)}"]})
        asked_at_ms = await lane.store.now_ms(LANE)
    assert answers.rstrip("X") == "C" * (len(answers) - answers.count("X"))
    (event,) = await closings(lane)
    assert event.at_ms >= expires_at_ms


async def test_a_packet_somebody_has_a_share_of_is_not_taken_back(lane: Lane) -> None:
    packet, late = await lane.open([5, 7]), await lane.open([5, 7])
    await lane.claim({packet: ["ada"], late: ["ada"]})
    await lane.run_out(late)
    before = await lane.everything()
    assert await lane.close(packet, RETRACTED) == (Closed.CLAIMED, 0, 0)
    assert await lane.close(late, RETRACTED) == (Closed.CLAIMED, 0, 0)
    assert await lane.everything() == before


@pytest.mark.parametrize("reason", [EXPIRED, RETRACTED])
async def test_an_unknown_or_a_loading_packet_is_missing(lane: Lane, reason: CloseReason) -> None:
    loading = new_packet_number(LANE)
    chunk = chunk_of([5, 7], packet_id=loading, size=1, expires_at_ms=LONG_AGO_MS)
    await lane.store.open(chunk, not_after_ms=FAR_FUTURE_MS)
    before = await lane.everything()
    for packet in (loading, new_packet_number(LANE)):
        assert await lane.close(packet, reason) == (Closed.MISSING, 0, 0)
    assert await lane.everything() == before


@pytest.mark.parametrize("epoch", ["another", "", None])
async def test_fenced_over_all(lane: Lane, epoch: str | None) -> None:
    packet = await lane.open([5], expires_at_ms=LONG_AGO_MS)
    if epoch is None:
        await command(lane.client, "DEL", keys.lane(LANE))
    else:
        await command(lane.client, "HSET", keys.lane(LANE), "epoch", epoch)
    before = await lane.everything()
    for number in (packet, new_packet_number(LANE)):
        with pytest.raises(RecoveringError):
            await lane.close(number)
    assert await lane.everything() == before


@pytest.mark.parametrize("reason", ["exhausted", "open", "", "EXPIRED"])
async def test_there_are_no_other_reasons(lane: Lane, reason: str) -> None:
    packet = await lane.open([5], expires_at_ms=LONG_AGO_MS)
    names, before = [keys.packet(packet), keys.shares(packet)], await lane.everything()
    assert await lane.call("close", names, [EPOCH, packet, reason]) == [b"MALFORMED"]
    assert await lane.everything() == before


async def test_an_event_that_cannot_be_written_closes_nothing(lane: Lane) -> None:
    packet = await lane.open([5, 7], expires_at_ms=LONG_AGO_MS)
    await command(lane.client, "DEL", keys.events(LANE))
    await command(lane.client, "SET", keys.events(LANE), "not a stream")
    before = await lane.everything()
    with pytest.raises(UnavailableError, match="WRONGTYPE"):
        await lane.close(packet)
    assert await lane.everything() == before


async def test_two_sweepers_refund_once(lane: Lane) -> None:
    packet = await lane.open([5, 7], expires_at_ms=LONG_AGO_MS)
    replies = await asyncio.gather(*(lane.close(packet) for _ in range(20)))
    assert sorted(replies) == sorted([(Closed.CLOSED, 2, 12)] + [(Closed.ENDED, 0, 0)] * 19)
    assert len(await closings(lane)) == 1


async def test_a_flushed_script_is_loaded_again(lane: Lane) -> None:
    packet = await lane.open([5])
    await command(lane.client, "SCRIPT", "FLUSH")
    assert await lane.close(packet, RETRACTED) == (Closed.CLOSED, 1, 5)


async def test_only_the_cluster_refuses_keys_of_two_lanes(lane: Lane, request: pytest.FixtureRequest) -> None:
    packet, elsewhere = await lane.open([5]), new_packet_number(LANE + 1)
    names = [keys.packet(packet), keys.shares(elsewhere)]
    words: list[str | int] = [EPOCH, packet, "retracted", ANY_TIME_MS, 5_000]
    if request.node.callspec.id == "cluster":
        with pytest.raises(ResponseError, match="same slot"):
            await lane.call("close", names, words)
    else:
        assert await lane.call("close", names, words) == [b"CLOSED", 1, 5]
