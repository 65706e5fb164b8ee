"""Looking at packets: the same answer from Redis while it holds them and from the ledger afterwards."""

import dataclasses
from typing import Any

import pytest

from engine.engine import Engine
from engine.errors import InvalidFieldsError, RecoveringError, UnavailableError, UnknownPacketError
from engine.ids import new_packet_number
from engine.lanes.clients import redis_client
from engine.lanes.reader import LiveCounts
from engine.lanes.store import Store
from engine.lanes.topology import Topology
from engine.packets import views
from engine.packets.views import ListedClaim, PacketSummary, PacketView
from engine.records import PacketState, SplitKind
from engine.settings import Settings
from tests.support.scenes import (
    caught_up,
    claimed,
    let_time_run_out,
    packet_keys,
    pay_only,
    persisting,
    send,
    settled,
    sweeping,
)
from tests.support.waiting import wait_until


async def claim(engine: Engine, packet_id: str, *users: str) -> None:
    for user in users:
        await engine.claims.claim(packet_id, user)


async def all_claims(engine: Engine, packet_id: str, limit: int) -> list[ListedClaim]:
    """Every page, put together."""
    found, after = list[ListedClaim](), None
    while True:
        page = await engine.views.claims(packet_id, after=after, limit=limit)
        assert len(page.claims) <= limit
        found += page.claims
        after = page.next
        if after is None:
            return found


async def looked_at(engine: Engine, packet_id: str) -> tuple[PacketView, list[list[ListedClaim]]]:
    """Everything there is to see, the claims by pages of several sizes."""
    view = await engine.views.packet(packet_id)
    pages = [await all_claims(engine, packet_id, limit) for limit in (1, 3, 10, 100)]
    return dataclasses.replace(view, settled_at_ms=None), pages


async def drop_from_redis(engine: Engine) -> None:
    """As when the time that settled packets' keys are kept is over."""
    for names in (await packet_keys(engine)).values():
        await engine.redis.delete(*names)


@pytest.mark.parametrize("split", SplitKind)
@pytest.mark.parametrize("claimers", [0, 4, 10])
async def test_live_and_afterwards_the_answer_is_the_same(settings: Settings, split: SplitKind, claimers: int) -> None:
    async with Engine.open(settings) as engine:
        terms: dict[str, Any] = {
            "recipients": [f"user{number}" for number in range(12)],
            "greeting": "红包",
        }
        sent = await send(engine, total_fen=1_000, count=10, split=split, **terms)
        await claim(engine, sent.packet_id, *(f"user{number}" for number in range(claimers)))
        await let_time_run_out(engine, sent.packet_id)

        async def is_over() -> bool:
            return (await engine.views.packet(sent.packet_id)).state not in (PacketState.FUNDED, PacketState.OPEN)

        async with sweeping(settings):
            await wait_until(is_over, what="the end")
        live = await looked_at(engine, sent.packet_id)
        assert await engine.pool.fetchval("SELECT state FROM packets") == "funded"  # so it was Redis that answered
        async with persisting(settings):
            await settled(engine, sent.packet_id)
            await caught_up(engine)
        assert await looked_at(engine, sent.packet_id) == live
        await drop_from_redis(engine)
        assert await looked_at(engine, sent.packet_id) == live
        assert (await engine.views.packet(sent.packet_id)).settled_at_ms is not None

        view, (rows, *_) = live
        assert view.state is (PacketState.EXHAUSTED if claimers == 10 else PacketState.EXPIRED)
        assert (view.claimed_count, view.remaining_count) == (claimers, 10 - claimers)
        given_fen = sum(row.amount_fen or 0 for row in rows)
        assert (view.claimed_fen, view.remaining_fen) == (given_fen, 1_000 - given_fen)
        assert [row.slot for row in rows] == list(range(claimers))
        assert (view.sender, view.greeting, len(view.recipients)) == ("alice", "红包", 12)
        assert (view.commitment, view.expires_at_ms) == (sent.commitment, sent.expires_at_ms)


@pytest.mark.parametrize(("total_fen", "max_fen"), [(60, None), (20, None), (60, 3)], ids=["lucky", "1 fen", "equal"])
async def test_the_luckiest_is_the_earliest_of_the_largest_and_told_at_the_end_only(
    engine: Engine, total_fen: int, max_fen: int | None
) -> None:
    """Also of a lucky packet whose shares had to be equal."""
    sent = await send(engine, total_fen=total_fen, count=20, split=SplitKind.LUCKY, max_fen=max_fen)
    users = [f"user{number}" for number in range(20)]
    await claim(engine, sent.packet_id, *users[:-1])
    assert (await engine.views.packet(sent.packet_id)).luckiest is None
    await claim(engine, sent.packet_id, users[-1])
    rows = await all_claims(engine, sent.packet_id, 100)
    best = max(rows, key=lambda row: (row.amount_fen, -row.slot))
    luckiest = (await engine.views.packet(sent.packet_id)).luckiest
    assert luckiest is not None
    assert dataclasses.astuple(luckiest) == dataclasses.astuple(best)


@pytest.mark.parametrize(("split", "count"), [(SplitKind.EQUAL, 3), (SplitKind.EQUAL, 1), (SplitKind.LUCKY, 1)])
async def test_nobody_is_the_luckiest_where_luck_decided_nothing(
    engine: Engine, settings: Settings, split: SplitKind, count: int
) -> None:
    sent = await send(engine, total_fen=300, count=count, split=split)
    await claim(engine, sent.packet_id, *(f"user{number}" for number in range(count)))
    live = await engine.views.packet(sent.packet_id)
    async with persisting(settings):
        await settled(engine, sent.packet_id)
    afterwards = await engine.views.packet(sent.packet_id)
    assert (live.state, live.luckiest) == (afterwards.state, afterwards.luckiest) == (PacketState.EXHAUSTED, None)


async def test_a_packet_has_expired_by_the_clock_though_no_sweeper_came(engine: Engine, settings: Settings) -> None:
    sent = await send(engine, total_fen=500, count=5, ttl_s=1)
    waiting = await send(engine, total_fen=500, count=5, ttl_s=86_400)
    await claim(engine, sent.packet_id, "bob")

    async def is_over() -> bool:
        return await engine.store.now_ms(0) >= sent.expires_at_ms

    async def states() -> dict[str, PacketState]:
        page = await engine.views.records("alice", role="sent", after=None, limit=10)
        return {one.packet_id: one.state for one in page.packets}

    await wait_until(is_over, what="the end of its time")
    view = await engine.views.packet(sent.packet_id)
    given_fen = view.claimed_fen or 0
    assert (view.state, view.claimed_count, view.remaining_fen) == (PacketState.EXPIRED, 1, 500 - given_fen)
    assert await states() == {sent.packet_id: PacketState.EXPIRED, waiting.packet_id: PacketState.OPEN}
    async with persisting(settings):
        await caught_up(engine)
    (received,) = (await engine.views.records("bob", role="received", after=None, limit=10)).packets
    assert received.state is PacketState.EXPIRED


async def test_what_is_sold_out_is_so_in_its_senders_list_at_once(engine: Engine) -> None:
    sent = await send(engine, total_fen=20, count=2)
    await claim(engine, sent.packet_id, "bob", "carol")
    (line,) = (await engine.views.records("alice", role="sent", after=None, limit=10)).packets
    assert line.state is PacketState.EXHAUSTED
    assert await engine.pool.fetchval("SELECT state FROM packets") == "funded"  # the ledger does not know yet


async def test_a_list_needs_no_redis(engine: Engine, settings: Settings) -> None:
    """It says what the ledger knows."""
    sent = await send(engine, total_fen=20, count=2)
    async with persisting(settings):
        await caught_up(engine)
    async with redis_client("redis://127.0.0.1:1", connections_max=1, timeout_s=0.1) as nowhere:
        page = await views.Views(engine.pool, Store(Topology.of_one(nowhere), {}), engine.settings).records(
            "alice", role="sent", after=None, limit=10
        )
    assert [(one.packet_id, one.state) for one in page.packets] == [(sent.packet_id, PacketState.OPEN)]


async def test_a_packet_that_is_not_open_yet_is_whole(engine: Engine) -> None:
    packet_id = await pay_only(engine, total_fen=500, count=5)
    view = await engine.views.packet(packet_id)
    assert (view.state, view.remaining_count, view.remaining_fen, view.claimed_fen) == (PacketState.FUNDED, 5, 500, 0)
    assert await all_claims(engine, packet_id, 10) == []


async def test_a_claim_is_seen_at_once(engine: Engine) -> None:
    sent = await send(engine, total_fen=500, count=5)
    for number in range(1, 5):
        await claim(engine, sent.packet_id, f"user{number}")
        assert (await engine.views.packet(sent.packet_id)).claimed_count == number
        assert len(await all_claims(engine, sent.packet_id, 10)) == number


async def test_a_large_packets_claims_are_read_from_the_ledger(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "READ_WHOLE_COUNT_MAX", 19)
    async with Engine.open(settings) as engine:
        sent = await send(engine, total_fen=2_000, count=20)
        await claim(engine, sent.packet_id, *(f"user{number}" for number in range(12)))
        assert (await engine.views.packet(sent.packet_id)).claimed_count == 12
        async with persisting(settings):
            await caught_up(engine)
        rows = await all_claims(engine, sent.packet_id, 5)
        assert {row.user_id: row.amount_fen for row in rows} == await claimed(engine.pool, sent.packet_id)
        monkeypatch.undo()
        assert await all_claims(engine, sent.packet_id, 5) == rows  # and so does Redis say


async def test_a_number_nobody_has_is_unknown(engine: Engine) -> None:
    for lane in (0, 999):
        with pytest.raises(UnknownPacketError):
            await engine.views.packet(new_packet_number(lane))
        with pytest.raises(UnknownPacketError):
            await engine.views.claims(new_packet_number(lane), after=None, limit=1)


async def test_an_open_packet_that_redis_has_lost_is_not_shown_as_if_nothing_was_claimed(
    engine: Engine, settings: Settings
) -> None:
    sent = await send(engine, count=5)
    await claim(engine, sent.packet_id, "bob")
    async with persisting(settings):
        await caught_up(engine)
    await drop_from_redis(engine)
    for asked in (engine.views.packet(sent.packet_id), engine.views.claims(sent.packet_id, after=None, limit=1)):
        with pytest.raises(RecoveringError):
            await asked


async def test_what_is_dropped_while_it_is_looked_at_is_not_shown_as_unclaimed(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys of a settled packet may go between two of a look's questions to Redis."""
    sent = await send(engine, count=2)
    await claim(engine, sent.packet_id, "bob", "carol")
    async with persisting(settings):
        await settled(engine, sent.packet_id)
        await caught_up(engine)
    counts = Store.counts

    async def counts_and_then_gone(store: Store, packet_id: str) -> LiveCounts | None:
        found = await counts(store, packet_id)
        await drop_from_redis(engine)
        return found

    monkeypatch.setattr(Store, "counts", counts_and_then_gone)
    page = await engine.views.claims(sent.packet_id, after=None, limit=10)
    assert [row.user_id for row in page.claims] == ["bob", "carol"]


async def test_what_has_ended_is_shown_without_redis(settings: Settings, engine: Engine, port: int) -> None:
    ended, live = await send(engine, count=1), await send(engine, count=1)
    await claim(engine, ended.packet_id, "bob")
    async with persisting(settings):
        await settled(engine, ended.packet_id)
        await caught_up(engine)
    async with redis_client(f"redis://127.0.0.1:{port}", connections_max=1, timeout_s=1.0) as nobody:
        blind = views.Views(engine.pool, Store(Topology.of_one(nobody), {}), engine.settings)
        assert await blind.packet(ended.packet_id) == await engine.views.packet(ended.packet_id)
        assert len((await blind.claims(ended.packet_id, after=None, limit=5)).claims) == 1
        with pytest.raises(UnavailableError, match="Redis does not answer"):
            await blind.packet(live.packet_id)


async def test_records_of_what_was_sent_and_received(engine: Engine, settings: Settings) -> None:
    async with persisting(settings):
        sent = [await send(engine, "alice", total_fen=100 + number, count=2) for number in range(5)]
        others = [await send(engine, "eve", total_fen=100, count=2)]
        won = {}
        for packet in sent + others:
            won[packet.packet_id] = (await engine.claims.claim(packet.packet_id, "bob")).amount_fen
            await caught_up(engine)  # so that they come into the ledger in this order
        await claim(engine, sent[0].packet_id, "carol")
        await caught_up(engine)
    for limit in (1, 2, 5, 6, 50):
        mine = await all_records(engine, "alice", "sent", limit)
        assert [(row.packet_id, row.amount_fen, row.role) for row in mine] == [
            (packet.packet_id, packet.total_fen, "sent") for packet in reversed(sent)
        ]
        assert [row.state for row in mine] == [PacketState.OPEN] * 4 + [PacketState.EXHAUSTED]
        bobs = await all_records(engine, "bob", "received", limit)
        assert [(row.packet_id, row.amount_fen, row.role) for row in bobs] == [
            (packet.packet_id, won[packet.packet_id], "received") for packet in reversed(sent + others)
        ]
    assert await all_records(engine, "bob", "sent", 5) == await all_records(engine, "alice", "received", 5) == []


async def all_records(engine: Engine, user_id: str, role: str, limit: int) -> list[PacketSummary]:
    """Every page, put together."""
    found, after = list[PacketSummary](), None
    while True:
        page = await engine.views.records(user_id, role=role, after=after, limit=limit)
        assert len(page.packets) <= limit
        found += page.packets
        after = page.next
        if after is None:
            return found


@pytest.mark.parametrize(
    ("role", "cursor"), [("sent", "5-6"), ("sent", "5-6-7"), ("received", "5-6"), ("received", "x")]
)
async def test_a_cursor_of_another_kind_is_named(engine: Engine, role: str, cursor: str) -> None:
    with pytest.raises(InvalidFieldsError) as caught:
        await engine.views.records("alice", role=role, after=cursor, limit=5)
    assert [problem.field for problem in caught.value.problems] == ["after"]
