"""The persister's view of the stream, on a standalone and on a cluster-enabled server."""

import asyncio

import pytest

from engine.events import ClaimsEvent, OpenedEvent, UnreadableEventError
from engine.lanes import keys, stream
from engine.lanes.clients import command
from engine.lanes.entries import Entry, Raw, entry_in
from engine.lanes.reader import LaneStatus
from engine.lanes.replies import CloseReason
from engine.lanes.stream import ended_in
from tests.support.lane import EPOCH, LANE, Lane, users
from tests.support.waiting import wait_until


async def kept_ms(lane: Lane, name: str) -> int:
    """How long a key still lives: -1 for ever, -2 when it is not there."""
    return int(await command(lane.client, "PTTL", name))


async def test_reading_goes_on_after_a_position(lane: Lane) -> None:
    packet = await lane.open([1] * 10)
    await lane.claim({packet: users(3)})
    await lane.claim({packet: users(5)})
    entries = await lane.stream.read(LANE, 0, entries_max=10, block_ms=1)
    assert [entry.position for entry in entries] == [1, 4, 6]
    assert [type(entry.event) for entry in entries] == [OpenedEvent, ClaimsEvent, ClaimsEvent]
    assert await lane.stream.read(LANE, 1, entries_max=1, block_ms=1) == entries[1:2]
    assert await lane.stream.read(LANE, 3, entries_max=10, block_ms=1) == entries[1:]
    assert await lane.stream.read(LANE, 6, entries_max=10, block_ms=1) == []


async def test_reading_waits_for_what_comes(lane: Lane) -> None:
    reading = asyncio.create_task(lane.stream.read(LANE, 0, entries_max=10, block_ms=4_000))

    async def is_waiting() -> bool:
        return bool((await lane.client.info("clients"))["blocked_clients"])

    await wait_until(is_waiting, what="the reader being blocked")
    packet = await lane.open([5])
    (entry,) = await reading
    assert entry[:2] == (1, OpenedEvent(1, entry.event.at_ms, packet))


async def test_others_go_on_while_many_entries_are_read(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    packet = await lane.open([1] * 40)
    for user in users(40):
        await lane.claim({packet: [user]})
    turns = 0
    seen: set[int] = set()

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    def noted(number: int, raw: Raw) -> Entry:
        seen.add(turns)
        return entry_in(number, raw)

    monkeypatch.setattr(stream, "entry_in", noted)
    counting = asyncio.create_task(count())
    entries = await lane.stream.read(LANE, 0, entries_max=100, block_ms=1)
    counting.cancel()
    assert [entry.position for entry in entries] == list(range(1, 42))
    assert len(seen) > 5


async def test_a_page_ends_where_told(lane: Lane) -> None:
    packet = await lane.open([1] * 10)
    for user in users(3):
        await lane.claim({packet: [user]})
    assert [entry.position for entry in await lane.stream.page(LANE, after=0)] == [1, 2, 3, 4]
    assert [entry.position for entry in await lane.stream.page(LANE, after=1, up_to=3)] == [2, 3]
    assert await lane.stream.page(LANE, after=4) == []


@pytest.mark.parametrize("fields", [("event", b"nonsense"), ("other", b"")])
async def test_an_entry_of_somebody_else_is_unreadable(lane: Lane, fields: tuple[str, bytes]) -> None:
    await command(lane.client, "XADD", keys.events(LANE), "1-0", *fields)
    with pytest.raises(UnreadableEventError):
        await lane.stream.read(LANE, 0, entries_max=1, block_ms=1)


async def test_discarding_trims_what_is_applied_and_no_more(lane: Lane) -> None:
    packet = await lane.open([1] * 10)
    for size in (3, 6):
        await lane.claim({packet: users(size)})
    await lane.stream.discard(LANE, 4, [], retention_ms=1_000)
    assert [entry.position for entry in await lane.entries()] == [7]
    assert await lane.store.lane_status(LANE) == LaneStatus(epoch=EPOCH, position=7, applied=4)
    await lane.stream.discard(LANE, 7, [], retention_ms=1_000)
    assert await lane.entries() == []
    assert await lane.claim({packet: ["new"]}) == "C"
    assert [entry.position for entry in await lane.entries()] == [8]


async def test_what_has_ended_is_kept_for_a_while_and_what_has_not_for_ever(lane: Lane) -> None:
    ended, live = await lane.open([5], recipients=["ada"]), await lane.open([5, 7], recipients=["ada", "bob"])
    await lane.claim({ended: ["ada"], live: ["ada"]})
    await lane.stream.discard(LANE, await lane.position(), [int(ended)], retention_ms=60_000)
    for kind in (keys.packet, keys.claims, keys.recipients):
        assert 0 < await kept_ms(lane, kind(ended)) <= 60_000
        assert await kept_ms(lane, kind(live)) == -1
    assert await kept_ms(lane, keys.shares(ended)) == -2
    for name in (keys.lane(LANE), keys.due(LANE)):
        assert await kept_ms(lane, name) == -1
    assert await lane.claim({ended: ["ada", "bob"]}) == "AN"


async def test_what_a_dead_persister_left_is_discarded(lane: Lane) -> None:
    exhausted, closed, late = await lane.open([5]), await lane.open([5]), await lane.open([5])
    await lane.claim({exhausted: ["ada"]})
    await lane.close(closed, CloseReason.RETRACTED)
    checkpoint = await lane.position()
    await lane.claim({late: ["ada"]})
    await lane.stream.discard_applied(LANE, checkpoint, retention_ms=60_000)
    assert [entry.position for entry in await lane.entries()] == [checkpoint + 1]
    for packet in (exhausted, closed):
        assert 0 < await kept_ms(lane, keys.packet(packet)) <= 60_000
    assert await kept_ms(lane, keys.packet(late)) == -1
    status = await lane.store.lane_status(LANE)
    assert status is not None
    assert status.applied == checkpoint
    before = await lane.entries()
    await lane.stream.discard_applied(LANE, checkpoint, retention_ms=60_000)
    assert await lane.entries() == before


@pytest.mark.long
async def test_a_long_stream_is_discarded_page_by_page(lane: Lane) -> None:
    packets = [await lane.open([5]) for _ in range(600)]
    for packet in packets:
        await lane.claim({packet: ["ada"]})
    await lane.stream.discard_applied(LANE, 1_150, retention_ms=60_000)
    assert [entry.position for entry in await lane.entries()] == list(range(1_151, 1_201))
    lives = [await kept_ms(lane, keys.packet(packet)) > 0 for packet in packets]
    assert lives == [True] * 550 + [False] * 50


async def test_what_an_event_ends(lane: Lane) -> None:
    exhausted, partly, closed = await lane.open([5]), await lane.open([5, 7]), await lane.open([5])
    await lane.claim({exhausted: ["ada"], partly: ["ada"]})
    await lane.close(closed, CloseReason.RETRACTED)
    assert [ended_in(event) for event in await lane.events()] == [[], [], [], [int(exhausted)], [int(closed)]]
