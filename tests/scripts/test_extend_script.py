"""extend.lua on a standalone and on a cluster-enabled server: a packet that has not ended can be claimed for longer."""

from engine.lanes.replies import Closed, CloseReason, Extended
from tests.support.lane import FAR_FUTURE_MS, Lane

LONGER_MS = FAR_FUTURE_MS + 5_000


async def test_an_open_packet_ends_later_and_is_due_later(lane: Lane) -> None:
    packet = await lane.open([5, 7])
    assert await lane.store.extend(packet, LONGER_MS) is Extended.EXTENDED
    assert await lane.field(packet, "expires_at_ms") == str(LONGER_MS)
    assert await lane.due_ms(packet) == LONGER_MS
    before = await lane.everything()
    assert await lane.store.extend(packet, LONGER_MS) is Extended.EXTENDED  # a repeat
    assert await lane.store.extend(packet, FAR_FUTURE_MS) is Extended.EXTENDED  # never shorter
    assert await lane.everything() == before
    assert await lane.claim({packet: ["ada"]}) == "C"


async def test_what_waits_for_its_arrival_stays_due_then(lane: Lane) -> None:
    packet = await lane.open([5, 7], arrives_at_ms=FAR_FUTURE_MS - 1)
    due_ms = await lane.due_ms(packet)
    assert await lane.store.extend(packet, LONGER_MS) is Extended.EXTENDED
    assert await lane.due_ms(packet) == due_ms == FAR_FUTURE_MS - 1
    await lane.arrive(packet)
    assert (await lane.close(packet))[0] is Closed.ARRIVED
    assert await lane.claim({packet: ["ada"]}) == "C"


async def test_what_has_ended_stays_so(lane: Lane) -> None:
    taken, returned, late, unknown = (
        await lane.open([5]),
        await lane.open([5]),
        await lane.open([5]),
        "1000700000000000000",
    )
    assert await lane.claim({taken: ["ada"]}) == "C"
    assert (await lane.close(returned, CloseReason.RETURNED))[0] is Closed.CLOSED
    await lane.run_out(late)
    before = await lane.everything()
    replies = [await lane.store.extend(packet, LONGER_MS) for packet in (taken, returned, late, unknown)]
    assert replies == [Extended.ENDED, Extended.ENDED, Extended.ENDED, Extended.MISSING]
    assert await lane.everything() == before
