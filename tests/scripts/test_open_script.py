"""open.lua on a standalone and on a cluster-enabled server."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from engine.embedded.servers import EmbeddedRedis
from engine.errors import RecoveringError, UnavailableError
from engine.events import OpenedEvent
from engine.ids import new_packet_number
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.replies import CloseReason, Opened
from engine.packets.opening import SHARES_PER_CALL_MAX
from engine.records import Ack, PacketState
from tests.support.lane import EPOCH, FAR_FUTURE_MS, LANE, LONG_AGO_MS, Lane, chunk_of, lane_on, shares_of, users
from tests.support.slowlog import script_calls_ms

AMOUNTS = [5, 9, 7, 9, 1, 2, 3]
SHARES_PER_CALL_LARGEST = 7_000
PUSH = "return redis.call('RPUSH', KEYS[1], unpack(ARGV))"
SLOWER_MAX = 5
"""How many times as long as a plain push of its shares a call may take; it takes about as long."""


async def load(lane: Lane, packet_id: str, first: int, size: int, amounts: Sequence[int] = AMOUNTS) -> tuple[str, int]:
    """One chunk, as a loader would send it."""
    chunk = chunk_of(amounts, packet_id=packet_id, first=first, size=size)
    reply, loaded = await lane.store.open(chunk, not_after_ms=FAR_FUTURE_MS)
    return reply.value, loaded


async def load_all(lane: Lane, packet_id: str, size: int, amounts: Sequence[int] = AMOUNTS) -> list[str]:
    """Load chunks until the script says that no more are wanted, going on from wherever it says."""
    replies, offset = [], 0
    while True:
        word, loaded = await load(lane, packet_id, offset, size, amounts)
        replies.append(word)
        if word not in ("LOADED", "OFFSET"):
            return replies
        offset = loaded


async def assert_open_once(lane: Lane, packet_id: str, amounts: Sequence[int] = AMOUNTS) -> None:
    """Every share is there once, in order; it can be claimed, is due one day, and was told once."""
    assert await lane.shares_left(packet_id) == shares_of(amounts)
    assert await lane.store.states([packet_id]) == ["open"]
    assert await lane.field(packet_id, "loaded") is None
    assert await lane.due() == [packet_id]
    (event,) = await lane.events()
    assert isinstance(event, OpenedEvent)
    assert event.packet_id == packet_id
    assert await lane.position() == 1
    await lane.assert_consistent(packet_id, amounts)


async def test_a_small_packet_is_opened_in_one_call(lane: Lane) -> None:
    packet, before_ms = new_packet_number(LANE), await lane.store.now_ms(LANE)
    assert await load(lane, packet, 0, 7) == ("OPENED", 0)
    await assert_open_once(lane, packet)
    counts = await lane.store.counts(packet)
    assert counts is not None
    assert (counts.state, counts.count, counts.total_fen, counts.luckiest) == (PacketState.OPEN, 7, 36, None)
    assert await lane.field(packet, "luckiest_share") == "1:9"
    assert await lane.client.zscore(keys.due(LANE), packet) == FAR_FUTURE_MS
    (event,) = await lane.events()
    assert before_ms <= event.at_ms <= await lane.store.now_ms(LANE)


async def test_chunks_join_on_and_the_last_one_opens(lane: Lane) -> None:
    packet = new_packet_number(LANE)
    assert await load(lane, packet, 0, 3) == ("LOADED", 3)
    assert await lane.store.states([packet]) == ["loading"]
    assert await lane.store.counts(packet) is None
    assert await lane.events() == []
    assert not await lane.due()
    assert await load(lane, packet, 3, 3) == ("LOADED", 6)
    assert await load(lane, packet, 6, 1) == ("OPENED", 0)
    await assert_open_once(lane, packet)


async def test_every_chunk_may_be_sent_again(lane: Lane) -> None:
    packet = new_packet_number(LANE)
    for first, loaded in ((0, 3), (3, 6)):
        assert await load(lane, packet, first, 3) == ("LOADED", loaded)
        before = await lane.everything()
        assert await load(lane, packet, first, 3) == ("OFFSET", loaded)
        assert await load(lane, packet, 0, 3) == ("OFFSET", loaded)
        assert await lane.everything() == before
    assert await load(lane, packet, 6, 3) == ("OPENED", 0)
    before = await lane.everything()
    assert await load(lane, packet, 6, 3) == ("EXISTS", 0)
    assert await load(lane, packet, 0, 3) == ("EXISTS", 0)
    assert await lane.everything() == before
    await assert_open_once(lane, packet)


async def test_a_chunk_may_not_leave_a_gap(lane: Lane) -> None:
    packet = new_packet_number(LANE)
    assert await load(lane, packet, 3, 3) == ("OFFSET", 0)
    assert await lane.everything() == {keys.lane(LANE).encode(): await command(lane.client, "DUMP", keys.lane(LANE))}


async def test_a_loader_that_restarts_goes_on_where_the_dead_one_was(lane: Lane) -> None:
    packet = new_packet_number(LANE)
    await load(lane, packet, 0, 2)
    await load(lane, packet, 2, 2)
    assert await load_all(lane, packet, 2) == ["OFFSET", "LOADED", "OPENED"]
    await assert_open_once(lane, packet)


async def test_two_loaders_chunk_by_chunk(lane: Lane) -> None:
    packet = new_packet_number(LANE)
    assert await load(lane, packet, 0, 2) == ("LOADED", 2)
    assert await load(lane, packet, 0, 3) == ("OFFSET", 2)
    assert await load(lane, packet, 2, 3) == ("LOADED", 5)
    assert await load(lane, packet, 2, 2) == ("OFFSET", 5)
    assert await load(lane, packet, 5, 2) == ("OPENED", 0)
    assert await load(lane, packet, 5, 3) == ("EXISTS", 0)
    await assert_open_once(lane, packet)


@pytest.mark.long
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(1, 8), min_size=1, max_size=4), turns=st.lists(st.integers(0, 3), max_size=40))
def test_loaders_in_any_interleaving(script_server: EmbeddedRedis, sizes: list[int], turns: list[int]) -> None:
    """Any number of loaders with chunks of any size, one of them only surviving to the end, load each share once."""

    async def check() -> None:
        async with lane_on(script_server.url) as lane:
            packet, offsets = new_packet_number(LANE), [0] * len(sizes)
            for turn in turns:
                loader = turn % len(sizes)
                _, offsets[loader] = await load(lane, packet, offsets[loader], sizes[loader])
            assert (await load_all(lane, packet, sizes[0]))[-1] in ("OPENED", "EXISTS")
            await assert_open_once(lane, packet)

    asyncio.run(check())


class TestPrecedence:
    """Which of two replies that could both be given."""

    async def test_late_when_nothing_is_loaded(self, lane: Lane) -> None:
        packet, now_ms = new_packet_number(LANE), await lane.store.now_ms(LANE)
        before = await lane.everything()
        for first in (0, 3):
            chunk = chunk_of(AMOUNTS, packet_id=packet, first=first, size=3)
            assert await lane.store.open(chunk, not_after_ms=now_ms - 1) == (Opened.LATE, 0)
        assert await lane.everything() == before

    async def test_not_late_once_something_is_loaded(self, lane: Lane) -> None:
        packet = new_packet_number(LANE)
        await load(lane, packet, 0, 3)
        for first, size, expected in ((0, 3, Opened.OFFSET), (3, 3, Opened.LOADED), (6, 1, Opened.OPENED)):
            chunk = chunk_of(AMOUNTS, packet_id=packet, first=first, size=size)
            assert (await lane.store.open(chunk, not_after_ms=LONG_AGO_MS))[0] is expected
        chunk = chunk_of(AMOUNTS, packet_id=packet)
        assert await lane.store.open(chunk, not_after_ms=LONG_AGO_MS) == (Opened.EXISTS, 0)

    async def test_exists_in_every_state_after_loading(self, lane: Lane) -> None:
        states = {"open", "exhausted", "expired", "retracted"}
        packets = [await lane.open([5]) for _ in states]
        await lane.claim({packets[1]: ["ada"]})
        await lane.run_out(packets[2])
        await lane.close(packets[2])
        await lane.close(packets[3], CloseReason.RETRACTED)
        assert set(await lane.store.states(packets)) == states
        before = await lane.everything()
        for packet in packets:
            assert await load(lane, packet, 0, 1, [5]) == ("EXISTS", 0)
        assert await lane.everything() == before

    async def test_malformed_when_there_are_more_shares_than_told(self, lane: Lane) -> None:
        packet = new_packet_number(LANE)
        words: list[str | int] = [
            EPOCH,
            packet,
            FAR_FUTURE_MS,
            0,
            2,
            30,
            FAR_FUTURE_MS,
            "0:10",
            "",
            0,
            "0:10",
            "1:10",
            "2:10",
        ]
        names = [keys.packet(packet), keys.shares(packet), keys.recipients(packet)]
        before = await lane.everything()
        assert await lane.call("open", names, words) == [b"MALFORMED"]
        assert await lane.everything() == before

    async def test_offset_over_malformed(self, lane: Lane) -> None:
        packet = new_packet_number(LANE)
        await load(lane, packet, 0, 3)
        words: list[str | int] = [
            EPOCH,
            packet,
            FAR_FUTURE_MS,
            0,
            2,
            30,
            FAR_FUTURE_MS,
            "0:10",
            "",
            0,
            "0:10",
            "1:10",
            "2:10",
        ]
        names = [keys.packet(packet), keys.shares(packet), keys.recipients(packet)]
        assert await lane.call("open", names, words) == [b"OFFSET", 3]

    @pytest.mark.parametrize("epoch", ["another", "", None])
    async def test_fenced_over_all(self, lane: Lane, epoch: str | None) -> None:
        packet = await lane.open(AMOUNTS)
        if epoch is None:
            await command(lane.client, "DEL", keys.lane(LANE))
        else:
            await command(lane.client, "HSET", keys.lane(LANE), "epoch", epoch)
        before = await lane.everything()
        for number in (packet, new_packet_number(LANE)):
            with pytest.raises(RecoveringError):
                await load(lane, number, 0, 7)
        assert await lane.everything() == before


class TestBounds:
    """What would overflow Lua's stack is refused before anything is written."""

    @pytest.mark.parametrize("shares", [SHARES_PER_CALL_LARGEST + 1, 8_000, 20_000])
    @pytest.mark.parametrize("more", [0, 1], ids=["the last chunk", "not the last chunk"])
    async def test_too_many_shares_in_a_call(self, lane: Lane, shares: int, more: int) -> None:
        before = await lane.everything()
        with pytest.raises(ValueError, match=r"open\.lua refused"):
            await load(lane, new_packet_number(LANE), 0, shares, [1] * (shares + more))
        assert await lane.everything() == before

    async def test_too_many_recipients(self, lane: Lane) -> None:
        before = await lane.everything()
        with pytest.raises(ValueError, match=r"open\.lua refused"):
            await lane.open([1], recipients=users(SHARES_PER_CALL_LARGEST + 1))
        assert await lane.everything() == before

    async def test_as_much_as_it_takes(self, lane: Lane) -> None:
        assert SHARES_PER_CALL_MAX <= SHARES_PER_CALL_LARGEST
        packet = await lane.open([1] * SHARES_PER_CALL_LARGEST, recipients=users(5_000))
        await assert_open_once(lane, packet, [1] * SHARES_PER_CALL_LARGEST)

    @pytest.mark.parametrize("recipients", [-1, 2, "x"])
    async def test_recipients_that_are_not_as_many_as_counted(self, lane: Lane, recipients: str | int) -> None:
        packet = new_packet_number(LANE)
        words: list[str | int] = [EPOCH, packet, FAR_FUTURE_MS, 0, 1, 10, FAR_FUTURE_MS, "0:10", "", recipients, "ada"]
        names = [keys.packet(packet), keys.shares(packet), keys.recipients(packet)]
        before = await lane.everything()
        assert await lane.call("open", names, words) == [b"MALFORMED"]
        assert await lane.everything() == before


async def test_recipients_are_kept_with_the_first_chunk(lane: Lane) -> None:
    packet, invited = new_packet_number(LANE), ["ada", "bob", "0:5"]
    for first in (0, 3, 6):
        chunk = chunk_of(AMOUNTS, packet_id=packet, first=first, size=3, recipients=invited)
        await lane.store.open(chunk, not_after_ms=FAR_FUTURE_MS)
    await assert_open_once(lane, packet)
    assert await command(lane.client, "SMEMBERS", keys.recipients(packet)) == {name.encode() for name in invited}
    assert await lane.field(packet, "invited") == "3"
    assert await lane.claim({packet: ["eve", "0:5"]}) == "NC"


async def test_a_packet_for_anyone_has_no_recipients(lane: Lane) -> None:
    packet = await lane.open(AMOUNTS)
    assert await lane.field(packet, "invited") is None
    assert not await command(lane.client, "EXISTS", keys.recipients(packet))


async def test_an_event_that_cannot_be_written_opens_nothing(lane: Lane) -> None:
    packet = new_packet_number(LANE)
    await load(lane, packet, 0, 6)
    await command(lane.client, "SET", keys.events(LANE), "not a stream")
    before = await lane.everything()
    with pytest.raises(UnavailableError, match="WRONGTYPE"):
        await load(lane, packet, 6, 1)
    assert await lane.everything() == before
    await command(lane.client, "DEL", keys.events(LANE))
    assert await load(lane, packet, 6, 1) == ("OPENED", 0)
    await assert_open_once(lane, packet)


async def test_a_flushed_script_is_loaded_again(lane: Lane) -> None:
    packet = new_packet_number(LANE)
    await load(lane, packet, 0, 6)
    await command(lane.client, "SCRIPT", "FLUSH")
    assert await load(lane, packet, 6, 1) == ("OPENED", 0)


async def test_only_the_cluster_refuses_keys_of_two_lanes(lane: Lane, request: pytest.FixtureRequest) -> None:
    packet, elsewhere = new_packet_number(LANE), new_packet_number(LANE + 1)
    names = [keys.packet(packet), keys.shares(elsewhere), keys.recipients(packet)]
    words: list[str | int] = [EPOCH, packet, FAR_FUTURE_MS, 0, 1, 10, FAR_FUTURE_MS, "0:10", "", "", 0, "0:10"]
    if request.node.callspec.id == "cluster":
        with pytest.raises(ResponseError, match="same slot"):
            await lane.call("open", names, words)
    else:
        assert await lane.call("open", names, words) == [b"OPENED"]


@pytest.mark.long
async def test_a_million_shares_do_not_hold_the_server(lane: Lane) -> None:
    """The server's own time of each call, beside that of plain pushes of as many shares at about the same moment."""
    count = 1_000_000
    size = SHARES_PER_CALL_MAX
    packet, *twins = (new_packet_number(LANE) for _ in range(4))
    usual = chunk_of([100], packet_id=packet)
    calls_ms: list[float] = []
    pushes_ms: list[float] = []
    for begin in range(0, count, 20 * size):
        firsts = range(begin, begin + 20 * size, size)
        chunks = [(first, [f"{slot}:100" for slot in range(first, first + size)]) for first in firsts]
        async with script_calls_ms(lane.client) as block_ms:
            for first, shares in chunks:
                chunk = replace(usual, offset=first, count=count, total_fen=100 * count, shares=shares)
                reply, _ = await lane.store.open(chunk, not_after_ms=FAR_FUTURE_MS)
                assert reply is (Opened.LOADED if first + size < count else Opened.OPENED)
        calls_ms += block_ms
        async with script_calls_ms(lane.client) as block_ms:
            for _, shares in chunks:
                await command(lane.client, "EVAL", PUSH, 1, keys.shares(twins[0]), *shares)
        pushes_ms += block_ms
    assert len(calls_ms) >= len(pushes_ms) == count // size
    for share_of_calls in (0.5, 0.95):
        assert at(calls_ms, share_of_calls) < SLOWER_MAX * at(pushes_ms, share_of_calls)
    assert await command(lane.client, "LLEN", keys.shares(packet)) == count

    # One closing may be held up by whatever else the machine does: the quickest of four says what it takes.
    await command(lane.client, "DEL", keys.shares(twins[0]))
    for twin in twins:
        for key in (keys.packet, keys.shares):
            assert await command(lane.client, "COPY", key(packet), key(twin)) == 1
    async with script_calls_ms(lane.client) as closing_ms:
        for each in (packet, *twins):
            assert (await lane.close(each, CloseReason.RETRACTED))[1:] == (count, count * 100)
    assert len(closing_ms) >= 4
    assert sorted(closing_ms)[-4] < SLOWER_MAX * at(pushes_ms, 0.5)


def at(calls_ms: list[float], share_of_calls: float) -> float:
    """How long the slowest of this share of the calls took."""
    return sorted(calls_ms)[int(len(calls_ms) * share_of_calls)]


@pytest.mark.parametrize("ack", [None, *Ack])
async def test_what_the_sender_wants_to_have_happened_is_kept(lane: Lane, ack: Ack | None) -> None:
    packet = await lane.open(AMOUNTS, ack=ack)
    assert await lane.field(packet, "ack") == ack
    counts = await lane.store.counts(packet)
    assert counts is not None
    assert counts.ack is ack
