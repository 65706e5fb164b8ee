"""Lists that show the newest first grow at their top alone: whoever has seen an entry has seen what is below it."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

import asyncpg
import pytest

from engine.engine import Engine
from engine.packets.terms import terms_from
from engine.records import SplitKind
from engine.risk import alerts
from engine.settings import Settings
from tests.support.scenes import caught_up, fund, persister_process, persisting, send
from tests.support.waiting import wait_until

ROUNDS = 15


class Follower:
    """Looks at a list again and again, as whoever syncs with it does. ``below``: what appeared too late."""

    def __init__(self, look: Callable[[], Awaitable[list[str]]]) -> None:
        self._look = look
        self.seen: list[str] = []
        self.below: list[str] = []

    async def follow(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.once()

    async def once(self) -> None:
        found = await self._look()
        known = set(self.seen)
        first_known = next((place for place, one in enumerate(found) if one in known), len(found))
        self.below += [one for one in found[first_known:] if one not in known]
        self.seen = found


@pytest.mark.long
async def test_nothing_appears_below_a_claim_while_its_claimant_sends(engine: Engine, settings: Settings) -> None:
    """The persister books claims in batches; what the user does beside it takes its numbers in between."""
    terms = terms_from(settings=settings, total_fen=1, count=1, split=SplitKind.EQUAL)
    await fund(engine, "bob", 10_000)

    async def all_transfers() -> list[str]:
        return [one.transfer_id for one in (await engine.wallets.transfers("bob", after=None, limit=1_000)).transfers]

    async def received() -> list[str]:
        page = await engine.views.records("bob", role="received", after=None, limit=1_000)
        return [one.packet_id for one in page.packets]

    async def sent() -> list[str]:
        page = await engine.views.records("bob", role="sent", after=None, limit=1_000)
        return [one.packet_id for one in page.packets]

    followers = [Follower(look) for look in (all_transfers, received, sent)]
    stop = asyncio.Event()

    async def spend() -> None:
        while not stop.is_set():
            await engine.packets.send("bob", terms, idempotency_key=uuid4().hex, request_hash=b"send")

    async def claim() -> None:
        for _ in range(ROUNDS):
            packets = [(await send(engine, total_fen=40, count=40, split=SplitKind.EQUAL)).packet_id for _ in range(4)]
            others = [f"user{number}" for number in range(38)]
            await asyncio.gather(
                *(engine.claims.claim(packet, user) for packet in packets for user in ["bob", *others])
            )
        stop.set()

    with persister_process(settings):
        await asyncio.gather(claim(), spend(), spend(), spend(), *(one.follow(stop) for one in followers))
        await caught_up(engine)
    for one in followers:
        await one.once()
    assert [len(one.seen) >= 4 * ROUNDS for one in followers] == [True] * 3
    assert [one.below for one in followers] == [[], [], []]


async def test_entries_take_their_numbers_once_their_wallet_is_locked(engine: Engine, settings: Settings) -> None:
    """A wallet that somebody holds: what is booked after it has a higher number, whoever began first."""
    sent = await send(engine, total_fen=100, count=2, split=SplitKind.EQUAL)
    await fund(engine, "bob", 100)
    await engine.claims.claim(sent.packet_id, "bob")
    ahead = await booked_while_the_persister_waits(engine, settings)
    claim = await engine.pool.fetchval("SELECT transfer_id FROM transfers WHERE kind = 'claim'")
    assert claim > ahead


async def booked_while_the_persister_waits(engine: Engine, settings: Settings) -> int:
    """Start a persister while bob's wallet is held, and book in it; the number of that entry, once all is applied."""
    async with engine.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT FROM accounts WHERE owner = 'bob' FOR UPDATE")
        async with persisting(settings):
            await wait_until(lambda: somebody_waits(engine.pool), what="the persister's wait for the wallet")
            ahead: int = await connection.fetchval(
                "SELECT move_money('correction', account_id, 4, 5, 1) FROM accounts WHERE owner = 'bob'"
            )
            await transaction.commit()
            await caught_up(engine)
    return ahead


async def somebody_waits(pool: asyncpg.Pool) -> bool:
    return bool(await pool.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))


async def test_a_refund_takes_its_number_once_the_wallet_is_locked(engine: Engine, settings: Settings) -> None:
    sent = await send(engine, "bob", total_fen=100, count=2, split=SplitKind.EQUAL)
    await fund(engine, "bob", 100)
    await engine.retractions.retract(sent.packet_id, "bob", confirmed=True)
    ahead = await booked_while_the_persister_waits(engine, settings)
    refund = await engine.pool.fetchval("SELECT transfer_id FROM transfers WHERE kind = 'refund'")
    assert refund > ahead


async def test_packets_sent_are_listed_in_the_order_of_their_payments(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packet's time is from before its sender's turn: one that was asked for first may be paid for last."""
    at_ms = await engine.store.now_ms(0)
    order = []
    for before_ms in (0, 5_000, 2_000):

        async def now_ms(before_ms: int = before_ms) -> int:
            return at_ms - before_ms

        monkeypatch.setattr(engine.store, "now_ms", now_ms)
        order.append((await send(engine, total_fen=10, count=1)).packet_id)
    page = await engine.views.records("alice", role="sent", after=None, limit=10)
    assert [one.packet_id for one in page.packets] == order[::-1]
    first = await engine.views.records("alice", role="sent", after=None, limit=1)
    second = await engine.views.records("alice", role="sent", after=first.next, limit=2)
    assert [one.packet_id for one in (*first.packets, *second.packets)] == order[::-1]
    assert second.next is None


async def test_an_alert_is_numbered_when_it_can_be_seen(engine: Engine) -> None:
    """What one wrote first and committed last is above the other."""

    async def kinds() -> list[str]:
        return [one.kind for one in (await engine.alerts.page(after=None, limit=10)).alerts]

    async with engine.pool.acquire() as slow, engine.pool.acquire() as quick:
        transaction = slow.transaction()
        await transaction.start()
        await alerts.note(slow, "began_first", "alice", is_delivered=False)
        async with quick.transaction():
            await alerts.note(quick, "began_second", "alice", is_delivered=False)
        assert await kinds() == ["began_second"]
        await transaction.commit()
    assert await kinds() == ["began_first", "began_second"]
