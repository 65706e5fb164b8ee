"""Opening what is paid for: once, by whomever, also after a crash in the middle."""

import asyncio
from uuid import uuid4

import asyncpg
import pytest
from structlog.testing import capture_logs

from engine.engine import Engine
from engine.errors import OpeningError, UnavailableError
from engine.events import OpenedEvent
from engine.ids import lane_of
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.reader import clock_ms
from engine.lanes.replies import Opened
from engine.lanes.store import Chunk, Store
from engine.lanes.topology import Node
from engine.observability import metrics
from engine.packets import opening
from engine.packets.opening import LEDGER_READING_MS_MAX, Funded, funded_from, open_packet, publish_once
from engine.packets.sending import SQL as PACKETS
from engine.packets.sending import Sent
from engine.packets.split import split
from engine.packets.terms import terms_from
from engine.records import Outcome, PacketState, SplitKind
from engine.settings import Settings
from tests.support.scenes import (
    assert_books_balance,
    caught_up,
    fund,
    packet_keys,
    pay_only,
    persisting,
    send,
    settled,
    sweeping,
)
from tests.support.waiting import wait_until


async def funded(engine: Engine, packet_id: str) -> Funded:
    """What the ledger says of the packet to whoever opens it."""
    row = await engine.pool.fetchrow(PACKETS["packet"], int(packet_id))
    assert row is not None
    return funded_from(row)


async def openings(engine: Engine, packet_id: str) -> int:
    """How often the packet was opened, by the events."""
    events = [entry.event for entry in await engine.stream.page(lane_of(packet_id), after=0)]
    return sum(isinstance(event, OpenedEvent) and event.packet_id == packet_id for event in events)


async def shares(engine: Engine, packet_id: str) -> list[str]:
    """The shares Redis holds, in the order of giving."""
    return [share.decode() for share in await command(engine.redis, "LRANGE", keys.shares(packet_id), 0, -1)]


def expected_shares(packet: Funded) -> list[str]:
    amounts = split(packet.split, packet.total_fen, packet.count, packet.min_fen, packet.max_fen, packet.seed)
    return [f"{slot}:{amount_fen}" for slot, amount_fen in enumerate(amounts.tolist())]


class DyingStore(Store):
    """Loads so many chunks and then fails, as a process that crashes in the middle."""

    def __init__(self, engine: Engine, chunks: int) -> None:
        super().__init__(engine.topology, engine.store.epochs)
        self._chunks = chunks

    async def open(self, chunk: Chunk, *, not_after_ms: int, epoch: str | None = None) -> tuple[Opened, int]:
        """Open, or die."""
        if self._chunks == 0:
            raise UnavailableError("died")
        self._chunks -= 1
        return await super().open(chunk, not_after_ms=not_after_ms, epoch=epoch)


async def test_what_is_paid_for_and_not_open_is_opened_once(engine: Engine, settings: Settings) -> None:
    packet_id = await pay_only(engine, total_fen=1_000, count=10)
    assert await publish_once(engine.pool, engine.store) == 1
    assert await publish_once(engine.pool, engine.store) == 0
    assert await openings(engine, packet_id) == 1
    assert await shares(engine, packet_id) == expected_shares(await funded(engine, packet_id))
    assert (await engine.claims.claim(packet_id, "bob")).outcome is Outcome.CLAIMED


async def test_what_the_persister_has_not_seen_open_is_not_opened_again(engine: Engine, settings: Settings) -> None:
    """The ledger says `funded` until the persister comes; also of a packet that is over by then."""
    sent = await send(engine, count=1)
    over = await send(engine, count=1)
    await engine.claims.claim(over.packet_id, "bob")
    assert await publish_once(engine.pool, engine.store) == 0
    assert [await openings(engine, packet.packet_id) for packet in (sent, over)] == [1, 1]
    assert await shares(engine, over.packet_id) == []


async def test_many_publishers_and_the_sender_at_once_open_a_packet_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.packets.opening.SHARES_PER_CALL_MAX", 7)
    async with Engine.open(settings) as engine:
        await fund(engine, "alice", 10_000)
        terms = terms_from(settings=settings, total_fen=1_000, count=100, split=SplitKind.LUCKY)

        async def send_again(key: str) -> Sent:
            return await engine.packets.send("alice", terms, idempotency_key=key, request_hash=b"body")

        for _ in range(5):
            key = uuid4().hex
            epochs = [await command(engine.redis, "HGET", keys.lane(lane), "epoch") for lane in engine.lanes]
            for lane in engine.lanes:
                await engine.store.fence(lane)
            sent = await send_again(key)
            assert sent.state is PacketState.FUNDED
            for lane, epoch in zip(engine.lanes, epochs, strict=True):
                await command(engine.redis, "HSET", keys.lane(lane), "epoch", epoch)
            publishers = [publish_once(engine.pool, engine.store) for _ in range(3)]
            opened = await asyncio.gather(*publishers, return_exceptions=False)
            again = await send_again(key)
            assert again.state is PacketState.OPEN
            assert sum(opened) == await openings(engine, sent.packet_id) == 1
            assert await shares(engine, sent.packet_id) == expected_shares(await funded(engine, sent.packet_id))


async def test_the_sender_who_repeats_opens_what_a_crash_left(engine: Engine, settings: Settings) -> None:
    packet_id = await pay_only(engine, count=10)
    packet, now_ms = await funded(engine, packet_id), await engine.store.now_ms(0)
    replies = await asyncio.gather(
        *(open_packet(engine.store, packet, shares_per_call=3, read_at_ms=now_ms) for _ in range(4)),
        publish_once(engine.pool, engine.store),
    )
    assert [*replies[:4], Opened.OPENED if replies[4] else Opened.EXISTS].count(Opened.OPENED) == 1
    assert await shares(engine, packet_id) == expected_shares(packet)


@pytest.mark.parametrize("chunks", [1, 7, 24])
async def test_a_load_that_stopped_in_the_middle_is_continued(
    settings: Settings, chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("INLINE_COUNT_MAX", 100), ("SHARES_PER_CALL_MAX", 1_000), ("AGE_S", 100.0)):
        monkeypatch.setattr(f"engine.packets.opening.{name}", value)
    async with Engine.open(settings) as engine:
        sent = await send(engine, total_fen=60_000, count=25_000)
        assert sent.state is PacketState.FUNDED
        with capture_logs() as logs:
            assert await publish_once(engine.pool, DyingStore(engine, chunks)) == 0
        assert [log["event"] for log in logs] == ["not_opened"]
        assert len(await shares(engine, sent.packet_id)) == chunks * 1_000
        with pytest.raises(OpeningError):
            await engine.claims.claim(sent.packet_id, "bob")
        assert (await engine.views.packet(sent.packet_id)).state is PacketState.FUNDED

        assert await publish_once(engine.pool, engine.store) == 1
        assert await shares(engine, sent.packet_id) == expected_shares(await funded(engine, sent.packet_id))
        assert (await engine.views.packet(sent.packet_id)).state is PacketState.OPEN
        assert (await engine.claims.claim(sent.packet_id, "bob")).outcome is Outcome.CLAIMED


async def test_the_young_are_left_to_their_sender(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.packets.opening.AGE_S", 100.0)
    async with Engine.open(settings) as engine:
        packet_id = await pay_only(engine)
        assert await publish_once(engine.pool, engine.store) == 0
        await engine.pool.execute("UPDATE packets SET created_at_ms = created_at_ms - 101000")
        assert await publish_once(engine.pool, engine.store) == 1
        assert await openings(engine, packet_id) == 1


async def test_more_than_a_page_is_opened_in_one_go(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.packets.opening._PAGE", 3)
    for _ in range(8):
        await pay_only(engine)
    assert await publish_once(engine.pool, engine.store) == 8


@pytest.mark.parametrize("loaded_before", [0, 2])
async def test_a_publisher_that_was_stalled_cannot_reopen_what_is_long_settled(
    settings: Settings, loaded_before: int
) -> None:
    """It read `funded`, fell asleep (or did in the middle of its load), and wakes when even the keys are gone."""
    async with Engine.open(settings) as engine:
        packet_id = await pay_only(engine, total_fen=1_000, count=10)
        stale, read_at_ms = await funded(engine, packet_id), await engine.store.now_ms(0)
        if loaded_before:
            with pytest.raises(UnavailableError):
                await open_packet(DyingStore(engine, loaded_before), stale, shares_per_call=3, read_at_ms=read_at_ms)
        async with persisting(settings):
            assert await publish_once(engine.pool, engine.store) == 1
            for number in range(10):
                await engine.claims.claim(packet_id, f"user{number}")
            await settled(engine, packet_id)
            await caught_up(engine)
            await engine.redis.delete(*(await packet_keys(engine))[packet_id])

            long_ago_ms = read_at_ms - LEDGER_READING_MS_MAX - 1
            assert await open_packet(engine.store, stale, shares_per_call=3, read_at_ms=long_ago_ms) is Opened.LATE
            assert await packet_keys(engine) == {}
            assert await publish_once(engine.pool, engine.store) == 0
        await assert_books_balance(engine.pool)
        assert await engine.pool.fetchval("SELECT count(*) FROM quarantine") == 0


def test_a_reading_grows_too_old_before_settled_keys_are_dropped(settings: Settings) -> None:
    (at_least,) = (rule.ge for rule in Settings.model_fields["settled_retention_s"].metadata)
    assert at_least * 1_000 >= 2 * LEDGER_READING_MS_MAX


async def test_one_that_could_only_be_opened_after_its_time_goes_back_whole(engine: Engine, settings: Settings) -> None:
    packet_id = await pay_only(engine, total_fen=700, count=10)
    await engine.pool.execute("UPDATE packets SET expires_at_ms = created_at_ms - 1")
    async with persisting(settings), sweeping(settings):
        await settled(engine, packet_id)
    assert (await engine.wallets.get("alice")).balance_fen == 700
    assert (await engine.claims.claim(packet_id, "bob")).outcome is Outcome.EXPIRED
    await assert_books_balance(engine.pool)


async def test_a_lane_that_is_fenced_does_not_hold_up_the_others(engine: Engine, settings: Settings) -> None:
    packet_ids = [await pay_only(engine)]
    while {lane_of(packet_id) for packet_id in packet_ids} != {0, 1}:  # each packet's lane is drawn
        packet_ids.append(await pay_only(engine))
    await engine.store.fence(0)
    with capture_logs() as logs:
        opened = await publish_once(engine.pool, engine.store)
    fenced = [packet_id for packet_id in packet_ids if lane_of(packet_id) == 0]
    assert opened == len(packet_ids) - len(fenced) > 0
    assert sorted(log["packet_id"] for log in logs if log["event"] == "not_opened") == sorted(fenced) != []


async def test_the_publisher_outlives_what_fails(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [asyncpg.ConnectionDoesNotExistError("gone"), UnavailableError("gone")]
    packet_id = await pay_only(engine)
    before = metrics.LOOP_ERRORS.labels("publisher")._value.get()

    async def clock_ms_later(node: Node) -> int:
        if failures:
            raise failures.pop()
        return await clock_ms(node)

    async def is_opened() -> bool:
        return await openings(engine, packet_id) == 1

    monkeypatch.setattr(opening, "clock_ms", clock_ms_later)
    async with sweeping(settings):
        await wait_until(is_opened, what="the opening")
    assert failures == []
    assert metrics.LOOP_ERRORS.labels("publisher")._value.get() == before + 2
