"""claim.lua on a standalone and on a cluster-enabled server."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from engine.embedded import servers
from engine.embedded.servers import EmbeddedRedis
from engine.errors import UnavailableError
from engine.events import ClaimsEvent
from engine.ids import new_packet_number
from engine.lanes import keys
from engine.lanes.clients import command, redis_client
from engine.lanes.replies import CloseReason
from engine.lanes.store import Store
from engine.lanes.stream import EventStream
from engine.lanes.topology import Topology
from engine.records import Ack, ClaimRow, PacketState
from tests.support.lane import BACKLOG_MAX, EPOCH, LANE, LONG_AGO_MS, Lane, chunk_of, claim_keys, lane_on, users
from tests.support.waiting import wait_until


@pytest.mark.long
async def test_each_user_gets_the_next_share(lane: Lane) -> None:
    packet = await lane.open([5, 7, 9])
    before_ms = await lane.store.now_ms(LANE)
    assert await lane.claim({packet: ["ada"]}) == "C"
    assert await lane.claim({packet: ["bob"]}) == "C"
    after_ms = await lane.store.now_ms(LANE)
    ada, bob = await lane.store.claims(packet)
    assert before_ms <= ada.claimed_at_ms <= bob.claimed_at_ms <= after_ms
    assert ada == ClaimRow(user_id="ada", amount_fen=5, slot=0, claimed_at_ms=ada.claimed_at_ms)
    assert bob == ClaimRow(user_id="bob", amount_fen=7, slot=1, claimed_at_ms=bob.claimed_at_ms)
    await lane.assert_consistent(packet, [5, 7, 9])


async def test_a_repeat_is_given_the_same_share_and_changes_nothing(lane: Lane) -> None:
    packet = await lane.open([5, 7])
    first = await lane.store.claim(LANE, {packet: ["ada"]}, backlog_max=BACKLOG_MAX)
    before = await lane.everything()
    again = await lane.store.claim(LANE, {packet: ["ada", "ada"]}, backlog_max=BACKLOG_MAX)
    assert [result.outcome.value for result in again.results] == ["A", "A"]
    assert {result.amount_fen for result in (*first.results, *again.results)} == {5}
    assert (first.position, again.position) == (2, 2)
    assert await lane.everything() == before


async def test_one_user_twice_in_a_call_gets_one_share(lane: Lane) -> None:
    packet, other = await lane.open([5, 7, 9]), await lane.open([1])
    asked = {packet: ["ada", "bob", "ada", "ada"], other: ["bob", "bob", "ada", "ada"]}
    results = (await lane.store.claim(LANE, asked, backlog_max=BACKLOG_MAX)).results
    assert "".join(result.outcome.value for result in results) == "CCAACAEE"
    assert [result.amount_fen for result in results] == [5, 7, 5, 5, 1, 1, 0, 0]
    await lane.assert_consistent(packet, [5, 7, 9])
    await lane.assert_consistent(other, [1])


async def test_many_packets_are_answered_in_the_order_asked(lane: Lane) -> None:
    amounts = [[place + 1] * 3 for place in range(100)]
    packets = [await lane.open(shares) for shares in amounts]
    asked = {packet: users(4, f"{place}-") for place, packet in enumerate(packets)}
    results = (await lane.store.claim(LANE, asked, backlog_max=BACKLOG_MAX)).results
    assert "".join(result.outcome.value for result in results) == "CCCE" * 100
    assert [result.amount_fen for result in results] == [
        amount for place in range(100) for amount in (place + 1, place + 1, place + 1, 0)
    ]
    await lane.assert_contiguous()
    for packet, shares in zip(packets, amounts, strict=True):
        await lane.assert_consistent(packet, shares)


async def test_a_batch_larger_than_what_is_left_has_so_many_winners(lane: Lane) -> None:
    packet = await lane.open([5, 7, 9, 11])
    assert await lane.claim({packet: ["ada"]}) == "C"
    assert await lane.claim({packet: users(10)}) == "CCCEEEEEEE"
    await lane.assert_consistent(packet, [5, 7, 9, 11])


@pytest.mark.parametrize("in_one_call", [True, False], ids=["one call", "one by one"])
@pytest.mark.parametrize(("amounts", "luckiest"), [([5, 9, 7], 1), ([7, 9, 9], 1), ([4, 4, 4], 0), ([1, 2, 3], 2)])
async def test_the_last_share_ends_the_packet(lane: Lane, amounts: list[int], luckiest: int, in_one_call: bool) -> None:
    packet, other = await lane.open(amounts), await lane.open([1, 1])
    hands = users(3)
    for group in [hands] if in_one_call else [[hand] for hand in hands]:
        assert await lane.field(packet, "state") == "open"
        assert await lane.claim({packet: group}) == "C" * len(group)
    counts = await lane.store.counts(packet)
    assert counts is not None
    assert (counts.state, counts.remaining_count, counts.remaining_fen) == (PacketState.EXHAUSTED, 0, 0)
    rows = await lane.store.claims(packet)
    assert counts.luckiest == rows[luckiest]
    assert rows[luckiest].user_id == hands[luckiest]
    assert await lane.due() == [other]
    assert not await command(lane.client, "EXISTS", keys.shares(packet))
    event = (await lane.events())[-1]
    assert isinstance(event, ClaimsEvent)
    assert event.packets[0].exhausted
    await lane.assert_consistent(packet, amounts)


async def test_the_last_but_one_share_does_not_end_it(lane: Lane) -> None:
    packet = await lane.open([5, 9, 7])
    await lane.claim({packet: users(2)})
    event = (await lane.events())[-1]
    assert isinstance(event, ClaimsEvent)
    assert not event.packets[0].exhausted
    assert await lane.field(packet, "state") == "open"


class TestPrecedence:
    """Each letter, and which of two that could both be given."""

    async def test_missing(self, lane: Lane) -> None:
        before = await lane.everything()
        assert await lane.claim({new_packet_number(LANE): ["ada", "ada", "bob"]}) == "MMM"
        assert await lane.everything() == before

    async def test_missing_while_the_shares_are_loading(self, lane: Lane) -> None:
        packet = new_packet_number(LANE)
        chunk = chunk_of([5, 7], packet_id=packet, size=1)
        await lane.store.open(chunk, not_after_ms=LONG_AGO_MS * 4)
        assert await lane.claim({packet: ["ada"]}) == "M"

    async def test_already_over_exhausted(self, lane: Lane) -> None:
        packet = await lane.open([5])
        assert await lane.claim({packet: ["ada", "bob"]}) == "CE"
        assert await lane.claim({packet: ["bob", "ada"]}) == "EA"

    async def test_already_over_expired_and_expired_over_empty_never(self, lane: Lane) -> None:
        packet = await lane.open([5, 7])
        assert await lane.claim({packet: ["ada"]}) == "C"
        await lane.run_out(packet)
        assert await lane.claim({packet: ["bob", "ada"]}) == "XA", "before the sweeper"
        await lane.close(packet)
        assert await lane.claim({packet: ["bob", "ada"]}) == "XA", "after the sweeper"

    async def test_empty_although_its_time_is_over_too(self, lane: Lane) -> None:
        packet = await lane.open([5])
        assert await lane.claim({packet: ["ada"]}) == "C"
        await lane.run_out(packet)
        assert await lane.claim({packet: ["bob", "ada"]}) == "EA"

    async def test_retracted_over_its_time_and_over_not_invited(self, lane: Lane) -> None:
        packet = await lane.open([5, 7], recipients=["ada", "bob"])
        await lane.close(packet, CloseReason.RETRACTED)
        assert await lane.claim({packet: ["ada", "eve"]}) == "RR"
        await lane.run_out(packet)
        assert await lane.claim({packet: ["ada", "eve"]}) == "RR"

    async def test_expired_over_not_invited(self, lane: Lane) -> None:
        packet = await lane.open([5], recipients=["ada"], expires_at_ms=LONG_AGO_MS)
        assert await lane.claim({packet: ["ada", "eve"]}) == "XX"

    async def test_not_invited_over_empty(self, lane: Lane) -> None:
        packet = await lane.open([5], recipients=["ada", "bob"])
        assert await lane.claim({packet: ["eve", "bob", "eve", "ada"]}) == "NCNE"
        assert await lane.claim({packet: ["eve", "ada", "bob"]}) == "NEA"

    async def test_everything_but_claimed_over_busy(self, lane: Lane) -> None:
        empty = await lane.open([5])
        expired = await lane.open([5], expires_at_ms=LONG_AGO_MS)
        private = await lane.open([5], recipients=["ada"])
        retracted = await lane.open([5])
        await lane.claim({empty: ["ada"]})
        await lane.close(retracted, CloseReason.RETRACTED)
        asked = {
            new_packet_number(LANE): ["ada"],
            empty: ["ada", "bob"],
            retracted: ["ada"],
            expired: ["ada"],
            private: ["eve", "ada"],
        }
        before = await lane.everything()
        assert await lane.claim(asked, backlog_max=1) == "MAERXNB"
        assert await lane.everything() == before

    async def test_empty_is_said_only_once_nothing_is_left(self, lane: Lane) -> None:
        """Three ask for two shares and there is room for one: the third must not hear that all are gone."""
        packet = await lane.open([5, 7])
        assert await lane.claim({packet: ["ada", "bob", "eve"]}, backlog_max=2) == "CBB"
        assert await lane.claim({packet: ["bob", "eve"]}, backlog_max=3) == "CE"


class TestBacklog:
    """No more changes than the bound may wait for the ledger."""

    async def test_the_bound_is_exact_within_a_call(self, lane: Lane) -> None:
        first, second = await lane.open([1] * 10), await lane.open([2] * 10)  # two changes wait
        asked = {first: users(3), second: users(3)}
        assert await lane.claim(asked, backlog_max=6) == "CCCCBB"
        assert await lane.position() == 6
        assert await lane.claim({first: ["new"]}, backlog_max=6) == "B"
        await lane.assert_consistent(first, [1] * 10)
        await lane.assert_consistent(second, [2] * 10)

    async def test_repeats_within_a_call_share_the_firsts_fate(self, lane: Lane) -> None:
        packet = await lane.open([1] * 10)
        assert await lane.claim({packet: ["ada", "ada", "bob", "bob"]}, backlog_max=2) == "CABB"

    async def test_what_the_ledger_has_makes_room(self, lane: Lane) -> None:
        packet = await lane.open([1] * 10)
        assert await lane.claim({packet: users(4)}, backlog_max=3) == "CCBB"
        await lane.stream.discard(LANE, 2, [], retention_ms=1_000)
        assert await lane.claim({packet: users(5)}, backlog_max=3) == "AACCB"

    async def test_a_backlog_past_the_bound_is_busy_too(self, lane: Lane) -> None:
        packet = await lane.open([1] * 10)
        await lane.claim({packet: users(5)})
        before = await lane.everything()
        assert await lane.claim({packet: ["new", "user0"]}, backlog_max=1) == "BA"
        assert await lane.everything() == before


class TestTime:
    """Redis's clock decides, whatever the sweeper does."""

    async def open_shortly(self, lane: Lane, amounts: Sequence[int]) -> tuple[str, int]:
        """A packet of which ``early`` has a share, and when it expires: as soon as this machine can claim before it."""
        for left_ms in (100, 1_000, 10_000):
            expires_at_ms = await lane.store.now_ms(LANE) + left_ms
            packet = await lane.open(amounts, expires_at_ms=expires_at_ms)
            answer = await lane.claim({packet: ["early"]})
            if answer == "C":
                return packet, expires_at_ms
            assert answer == "X"
            assert await lane.store.now_ms(LANE) >= expires_at_ms  # it was too late indeed
        pytest.fail("opening a packet and claiming took more than 10 s")

    async def test_nobody_wins_after_expires_at_although_nobody_swept(self, lane: Lane) -> None:
        packet, expires_at_ms = await self.open_shortly(lane, [5, 7])

        async def is_over() -> bool:
            return await lane.store.now_ms(LANE) >= expires_at_ms

        await wait_until(is_over, timeout_s=20, what="the packet's time being over")
        assert await lane.field(packet, "state") == "open"
        assert await lane.claim({packet: ["late", "early"]}) == "XA"

    async def test_no_share_is_given_at_or_after_expires_at(self, lane: Lane) -> None:
        """Claims race the clock: every winner's time is before the end, and once one has lost none wins."""
        packet, expires_at_ms = await self.open_shortly(lane, [1] * 5_000)

        async def is_close() -> bool:
            return await lane.store.now_ms(LANE) >= expires_at_ms - 100

        await wait_until(is_close, timeout_s=20, what="the packet's last moments")
        answers = "C"
        while "X" not in answers[-2:]:
            hands = users(5, f"{len(answers)}-")
            answers += await lane.claim({packet: hands})
        winners = answers.count("C")
        assert answers == "C" * winners + "X" * 5
        assert max(row.claimed_at_ms for row in await lane.store.claims(packet)) < expires_at_ms
        assert len(await lane.store.claims(packet)) == winners


async def test_the_event_tells_exactly_what_was_given(lane: Lane) -> None:
    first, second, lost = await lane.open([5, 7, 9]), await lane.open([10**12]), new_packet_number(LANE)
    asked = {first: ["ada", "ada", "bob"], lost: ["ada"], second: ["bob", "ada"]}
    assert await lane.claim(asked) == "CACMCE"
    (entry,) = [entry for entry in await lane.entries() if isinstance(entry.event, ClaimsEvent)]
    assert isinstance(entry.event, ClaimsEvent)
    assert entry.position == 5
    told = [(claims.packet_id, claims.users, claims.shares, claims.exhausted) for claims in entry.event.packets]
    assert told == [(first, ["ada", "bob"], ["0:5", "1:7"], False), (second, ["bob"], [f"0:{10**12}"], True)]
    assert {row.claimed_at_ms for row in await lane.store.claims(first)} == {entry.event.at_ms}


async def test_entries_are_contiguous_with_the_changes(lane: Lane) -> None:
    packet, ending = await lane.open([1] * 50), await lane.open([2] * 5)
    for size in (1, 7, 3, 20):
        await lane.claim({packet: users(size, f"{size}-"), ending: ["ada"]})
    await lane.close(packet, CloseReason.RETRACTED)
    await lane.run_out(ending)
    await lane.close(ending)
    await lane.assert_contiguous()
    assert len(await lane.entries()) == 7


@pytest.mark.parametrize("amounts", [[10**15], [10**15 - 1, 1], [1] * 500])
async def test_large_and_many_amounts_stay_exact(lane: Lane, amounts: list[int]) -> None:
    packet = await lane.open(amounts)
    for start in range(0, len(amounts), 7):
        await lane.claim({packet: users(7, f"{start}-")})
        await lane.assert_consistent(packet, amounts)
    assert await lane.field(packet, "state") == "exhausted"


async def test_user_ids_are_text_whatever_they_look_like(lane: Lane) -> None:
    hands = ["1", "01", "1.0", "1e0", "0x1", "-1", "nan", "inf", "-inf", "0", "", "a:b", "@", ":", "::", "-", "..", "_"]
    hands += ["{hongbao:999}", "{}", "用户", "true", "nil", "LIMIT", "x" * 64, "A", "a"]
    packet = await lane.open([1] * len(hands), recipients=hands)
    assert await lane.claim({packet: hands + hands}) == "C" * len(hands) + "A" * len(hands)
    assert [row.user_id for row in await lane.store.claims(packet)] == hands
    assert await lane.claim({packet: hands}) == "A" * len(hands)
    await lane.assert_consistent(packet, [1] * len(hands))


@pytest.mark.parametrize("server", ["standalone", "cluster"])
async def test_only_the_cluster_refuses_keys_of_two_lanes(
    server: str, redis_url: str, cluster_redis_server: EmbeddedRedis
) -> None:
    """Shows that the cluster-enabled server would catch a key that is not of the lane."""
    async with lane_on(redis_url if server == "standalone" else cluster_redis_server.url) as lane:
        elsewhere = new_packet_number(LANE + 1)
        arguments: list[str | int] = [EPOCH, BACKLOG_MAX, elsewhere, 1, "ada"]
        if server == "standalone":
            assert await lane.call("claim", claim_keys(elsewhere), arguments) == [b"OK", b"M", [0], 0]
        else:
            with pytest.raises(ResponseError, match="same slot"):
                await lane.call("claim", claim_keys(elsewhere), arguments)


async def test_a_flushed_script_is_loaded_again(lane: Lane) -> None:
    packet = await lane.open([5, 7])
    assert await lane.claim({packet: ["ada"]}) == "C"
    await command(lane.client, "SCRIPT", "FLUSH")
    assert await lane.claim({packet: ["ada", "bob"]}) == "AC"


async def test_a_restarted_server_goes_on_where_it_was(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with servers.hold(data_dir) as held:
        server = EmbeddedRedis(held)
        server.start()
        try:
            async with lane_on(server.url) as lane:
                packet = await lane.open([5, 7, 9])
                assert await lane.claim({packet: ["ada"]}) == "C"
                await asyncio.to_thread(server.stop)
                with pytest.raises(UnavailableError):
                    await lane.claim({packet: ["bob"]})
                await asyncio.to_thread(server.start)
                assert await lane.claim({packet: ["ada", "bob"]}) == "AC"
                assert await lane.claim({packet: ["eve"]}) == "C"
                await lane.assert_consistent(packet, [5, 7, 9])
                await lane.assert_contiguous()
        finally:
            server.stop()
    servers.remove(data_dir)


async def test_many_clients_at_once_give_each_share_once(script_server: EmbeddedRedis) -> None:
    async with lane_on(script_server.url) as lane:
        amounts = list(range(1, 301))
        packet = await lane.open(amounts)
        async with redis_client(script_server.url, connections_max=20, timeout_s=5.0) as client:
            other = Store(Topology.of_one(client), {LANE: EPOCH})
            stores = [lane.store, other] * 20
            answers = await asyncio.gather(
                *(
                    store.claim(LANE, {packet: users(20, f"{place // 2}-")}, backlog_max=BACKLOG_MAX)
                    for place, store in enumerate(stores)
                )
            )
        results = [result for answer in answers for result in answer.results]
        assert sum(result.outcome == "C" for result in results) == 300
        assert sorted(result.amount_fen for result in results if result.outcome == "C") == amounts
        assert len(await EventStream(Topology.of_one(lane.client)).page(LANE, after=0)) >= 16
        await lane.assert_consistent(packet, amounts)


async def test_the_position_is_that_after_the_call(lane: Lane) -> None:
    packet, other = await lane.open([5, 7, 9]), await lane.open([1])
    asked = [{packet: ["ada", "bob"], other: ["ada"]}, {packet: ["ada"], other: ["eve"]}, {packet: ["eve"]}]
    replies = [await lane.store.claim(LANE, call, backlog_max=BACKLOG_MAX) for call in asked]
    assert [reply.position for reply in replies] == [5, 5, 6]
    assert await lane.position() == 6


async def test_a_call_tells_what_its_packets_senders_want_to_have_happened(lane: Lane) -> None:
    plain, unknown = await lane.open([1]), new_packet_number(LANE)
    wanting = {ack: await lane.open([1], ack=ack) for ack in Ack}
    all_of_them = [plain, *wanting.values(), unknown]
    told = [
        (await lane.store.claim(LANE, {packet: ["ada", "bob"] for packet in asked}, backlog_max=BACKLOG_MAX)).acks
        for asked in ([plain, unknown], [unknown], all_of_them, all_of_them[::-1], [plain, wanting[Ack.LEDGER]])
    ]
    assert told == [None, None, "-mfrl-", "-lrfm-", "-l"]
