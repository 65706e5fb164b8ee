"""claim.lua refuses a call whole when its form, its lane or its keys are wrong, and an error changes nothing."""

from collections.abc import Callable, Sequence

import pytest

from engine.errors import RecoveringError, UnavailableError
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.store import Store
from engine.lanes.topology import Topology
from engine.records import CLAIMS_PER_CALL_MAX
from tests.support.lane import BACKLOG_MAX, EPOCH, LANE, Lane, claim_keys, users


class TestRefused:
    """Calls that must leave everything as it was."""

    @pytest.mark.long
    async def test_a_packet_named_twice(self, lane: Lane) -> None:
        packet, other = await lane.open([5, 7]), await lane.open([1])
        before = await lane.everything()
        arguments: list[str | int] = [EPOCH, BACKLOG_MAX, other, 1, "ada", packet, 1, "ada", packet, 1, "ada"]
        assert await lane.call("claim", claim_keys(other, packet, packet), arguments) == [b"MALFORMED"]
        assert await lane.everything() == before

    async def test_more_users_than_a_call_may_have(self, lane: Lane) -> None:
        packet = await lane.open([1] * 2_000)
        before = await lane.everything()
        with pytest.raises(ValueError, match=r"claim\.lua refused"):
            await lane.claim({packet: users(CLAIMS_PER_CALL_MAX + 1)})
        assert await lane.everything() == before
        assert await lane.claim({packet: users(CLAIMS_PER_CALL_MAX)}) == "C" * CLAIMS_PER_CALL_MAX
        await lane.assert_consistent(packet, [1] * 2_000)

    @pytest.mark.long
    async def test_more_users_than_a_call_may_have_over_several_packets(self, lane: Lane) -> None:
        packets = [await lane.open([1, 1]) for _ in range(501)]
        before = await lane.everything()
        with pytest.raises(ValueError, match=r"claim\.lua refused"):
            await lane.claim({packet: ["ada", "bob"] for packet in packets})
        assert await lane.everything() == before

    @pytest.mark.long
    async def test_as_many_packets_as_users(self, lane: Lane) -> None:
        packets = [await lane.open([1]) for _ in range(CLAIMS_PER_CALL_MAX)]
        assert await lane.claim({packet: ["ada"] for packet in packets}) == "C" * CLAIMS_PER_CALL_MAX

    @pytest.mark.parametrize(
        "arguments",
        [["user"], [2, "user"], [0], [-1, "user"], ["x", "user"], [1, "user", "rest"], [1]],
        ids=["no count", "count too large", "nobody", "count below 0", "no number", "more than counted", "none named"],
    )
    async def test_users_that_are_not_as_many_as_counted(self, lane: Lane, arguments: Sequence[str | int]) -> None:
        packet, other = await lane.open([5, 7]), await lane.open([1])
        before = await lane.everything()
        words: list[str | int] = [EPOCH, BACKLOG_MAX, other, 1, "ada", packet, *arguments]
        assert await lane.call("claim", claim_keys(other, packet), words) == [b"MALFORMED"]
        assert await lane.everything() == before

    @pytest.mark.parametrize("epoch", ["another", "", None])
    async def test_a_lane_of_another_epoch_or_gone(self, lane: Lane, epoch: str | None) -> None:
        packet = await lane.open([5, 7])
        if epoch is None:
            await command(lane.client, "DEL", keys.lane(LANE))
        else:
            await command(lane.client, "HSET", keys.lane(LANE), "epoch", epoch)
        before = await lane.everything()
        with pytest.raises(RecoveringError):
            await lane.claim({packet: ["ada"]})
        assert await lane.everything() == before

    async def test_a_lane_this_process_does_not_know(self, lane: Lane) -> None:
        packet = await lane.open([5])
        with pytest.raises(RecoveringError):
            await Store(Topology.of_one(lane.client), {}).claim(LANE, {packet: ["ada"]}, backlog_max=1_000)


class TestErrors:
    """An error before the event leaves nothing changed: decide, record, give."""

    async def test_an_event_that_cannot_be_written_gives_nothing(self, lane: Lane) -> None:
        packet, last = await lane.open([5, 7]), await lane.open([9])
        await command(lane.client, "DEL", keys.events(LANE))
        await command(lane.client, "SET", keys.events(LANE), "not a stream")
        before = await lane.everything()
        with pytest.raises(UnavailableError, match="WRONGTYPE"):
            await lane.claim({packet: ["ada"], last: ["ada"]})
        assert await lane.everything() == before

    async def test_a_stream_ahead_of_its_lane_gives_nothing(self, lane: Lane) -> None:
        packet = await lane.open([5, 7])
        await command(lane.client, "XADD", keys.events(LANE), "1000-0", "event", b"")
        before = await lane.everything()
        with pytest.raises(UnavailableError, match="smaller than"):
            await lane.claim({packet: ["ada"]})
        assert await lane.everything() == before

    @pytest.mark.parametrize("kind", [keys.packet, keys.shares, keys.claims, keys.recipients])
    async def test_a_key_of_the_wrong_type_gives_nothing(self, lane: Lane, kind: Callable[[str], str]) -> None:
        good, bad = await lane.open([5, 7]), await lane.open([9], recipients=["ada"])
        await command(lane.client, "SET", kind(bad), "of the wrong type")
        before = await lane.everything()
        with pytest.raises(UnavailableError, match="WRONGTYPE"):
            await lane.claim({good: ["ada"], bad: ["ada"]})
        assert await lane.everything() == before

    async def test_a_server_out_of_memory_gives_nothing(self, lane: Lane) -> None:
        packet = await lane.open([5, 7])
        before = await lane.everything()
        await command(lane.client, "CONFIG", "SET", "maxmemory", "1")
        try:
            with pytest.raises(UnavailableError, match=r"(?i)memory"):
                await lane.claim({packet: ["ada"]})
        finally:
            await command(lane.client, "CONFIG", "SET", "maxmemory", "0")
        assert await lane.everything() == before
        assert await lane.claim({packet: ["ada"]}) == "C"
