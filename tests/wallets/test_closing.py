"""A day is closed once all of it is in the ledger, and not before: what is read of it then never changes."""

import asyncio
import time
from dataclasses import dataclass
from datetime import date

import asyncpg
import pytest

from engine.calendar.china_time import begin_ms
from engine.engine import Engine
from engine.errors import DayNotClosedError, UnavailableError
from engine.ids import lane_of
from engine.lanes import keys
from engine.lanes.clients import redis_client
from engine.lanes.reader import LaneReader
from engine.lanes.stream import EventStream
from engine.lanes.topology import Topology
from engine.settings import Settings
from engine.wallets.closing import Closing
from engine.wallets.statement import Statements
from tests.support.front import open_front
from tests.support.scenes import caught_up, persisting, send

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Midnight:
    """A day that has just ended: ``ends_ms`` is where the tests put its end, by the servers' clocks."""

    engine: Engine
    day: date
    ends_ms: int

    async def why_open(self) -> str | None:
        """What keeps the day from being closed."""
        closing = Closing(self.engine.pool, self.engine.store, self.engine.stream)
        try:
            await closing.check(self.day)
        except DayNotClosedError as error:
            return str(error).removeprefix(f"{self.day} is not closed: ")
        return None


@pytest.fixture
async def midnight(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Midnight:
    """Its end is after what the fixture does: a claim that nothing has booked yet."""
    day = date(2026, 2, 16)
    sent = await send(engine, total_fen=300, count=3)
    await engine.claims.claim(sent.packet_id, "bob")
    ends_ms = await engine.store.now_ms(0) + 1
    monkeypatch.setattr("engine.wallets.closing.begin_ms", lambda _day: ends_ms)
    monkeypatch.setattr("engine.wallets.closing._MARGIN_MS", 0)
    return Midnight(engine, day, ends_ms)


async def test_a_claim_that_waits_in_the_stream_keeps_its_day_open(midnight: Midnight, settings: Settings) -> None:
    assert "changes that are not in the ledger" in (await midnight.why_open() or "")
    async with persisting(settings):
        await caught_up(midnight.engine)
    assert await midnight.why_open() is None


async def test_what_waits_of_the_next_day_does_not(midnight: Midnight, settings: Settings) -> None:
    """A lane under load is never caught up."""
    async with persisting(settings):
        await caught_up(midnight.engine)
    sent = await send(midnight.engine, total_fen=300, count=3)
    await midnight.engine.claims.claim(sent.packet_id, "bob")
    assert await midnight.why_open() is None


async def test_a_day_is_not_over_before_both_clocks_say_so(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for ahead_ms in (3_000, 100_000):
        ends_ms = int(time.time() * 1_000) + ahead_ms
        monkeypatch.setattr("engine.wallets.closing.begin_ms", lambda _day, ends_ms=ends_ms: ends_ms)
        with pytest.raises(DayNotClosedError, match="2026-02-16 is not over") as caught:
            await Closing(engine.pool, engine.store, engine.stream).check(date(2026, 2, 16))
        assert 0 < caught.value.retry_after_s <= ahead_ms // 1_000 + 1


async def test_a_transaction_that_is_open_keeps_the_day_open(midnight: Midnight, settings: Settings) -> None:
    """It may have taken its time before midnight, and be seen later."""
    async with persisting(settings):
        await caught_up(midnight.engine)
    async with midnight.engine.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("UPDATE accounts SET balance_fen = balance_fen WHERE owner = 'bob'")
        assert await midnight.why_open() == "a transaction of the ledger is open."
        waiting = asyncio.create_task(midnight.why_open())
        await transaction.rollback()
        assert await waiting is None


async def test_what_is_in_quarantine_keeps_the_day_open(midnight: Midnight, settings: Settings) -> None:
    async with persisting(settings):
        await caught_up(midnight.engine)
    number = await aside(midnight.engine.pool, midnight.ends_ms)
    assert await midnight.why_open() is None
    number = await aside(midnight.engine.pool, midnight.ends_ms - 1)
    assert await midnight.why_open() == f"change {number} waits in quarantine."
    await midnight.engine.pool.execute(
        "UPDATE quarantine SET resolution = 'retried', resolved_at_ms = 1, resolved_by = 'root'"
    )
    assert await midnight.why_open() is None


async def aside(pool: asyncpg.Pool, at_ms: int) -> int:
    """A change of this time in quarantine; its number."""
    query = (
        "INSERT INTO quarantine (lane, position, packet_id, kind, user_id, slot, amount_fen, at_ms, reason) "
        "VALUES (0, 1, 1000100000000000001, 'claim', 'bob', 0, 1, $1, 'a rule') RETURNING quarantine_id"
    )
    return int(await pool.fetchval(query, at_ms))


async def test_a_lane_that_redis_lost_or_that_holds_something_else_keeps_the_day_open(
    midnight: Midnight, settings: Settings
) -> None:
    engine = midnight.engine
    async with persisting(settings):
        await caught_up(engine)
    lane = engine.lanes[0]
    held = await engine.redis.hgetall(keys.lane(lane))
    await engine.redis.hset(keys.lane(lane), "epoch", "other")
    assert await midnight.why_open() == f"lane {lane} is not compared with the ledger."
    await engine.redis.hset(keys.lane(lane), "epoch", held[b"epoch"])
    assert await midnight.why_open() is None
    await engine.redis.rename(keys.lane(lane), "away")
    assert await midnight.why_open() == f"lane {lane} is not compared with the ledger."
    await engine.redis.rename("away", keys.lane(lane))
    assert await midnight.why_open() is None


async def test_an_entry_that_nobody_can_read_keeps_the_day_open(midnight: Midnight, settings: Settings) -> None:
    engine = midnight.engine
    async with persisting(settings):
        await caught_up(engine)
    lane = lane_of((await send(engine, total_fen=300, count=3)).packet_id)
    position = await engine.pool.fetchval("SELECT position FROM lanes WHERE lane = $1", lane)
    await engine.redis.delete(keys.events(lane))
    await engine.redis.xadd(keys.events(lane), {"event": b"no event"}, id=f"{position + 1}-0")
    assert await midnight.why_open() == f"an entry of lane {lane} cannot be applied."


async def test_without_redis_nobody_says_that_a_day_is_closed(engine: Engine) -> None:
    async with redis_client("redis://127.0.0.1:1", connections_max=1, timeout_s=0.1) as nowhere:
        closing = Closing(engine.pool, LaneReader(Topology.of_one(nowhere)), EventStream(Topology.of_one(nowhere)))
        with pytest.raises(UnavailableError):
            await Statements(engine.pool, closing, "CNY").of("alice", date(2026, 2, 16), date(2026, 2, 16))


async def test_yesterdays_statement_is_refused_until_the_ledger_has_it_and_is_the_same_ever_after(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over HTTP, with a claim of yesterday's that the persister is behind with."""
    async with Engine.open(settings) as engine:
        sent = await send(engine, total_fen=300, count=3)
        await engine.claims.claim(sent.packet_id, "bob")
        # From now on it is tomorrow, as long as anybody asks for the day.
        now_ms = await engine.store.now_ms(0)
        shifted_ms = now_ms + 1 - begin_ms(date(2026, 2, 17))
        for module in ("closing", "statement"):
            monkeypatch.setattr(f"engine.wallets.{module}.begin_ms", lambda day: begin_ms(day) + shifted_ms)
        monkeypatch.setattr("engine.wallets.closing._MARGIN_MS", 0)
        async with open_front(settings) as client:
            days = {"from": "2026-02-16", "to": "2026-02-16"}
            path, headers = "/v1/wallets/bob/statement.csv", client.as_user("bob")
            early = await client.http.get(path, params=days, headers=headers)
            assert (early.status_code, early.json()["code"]) == (409, "day_not_closed")
            assert early.headers["retry-after"] == "5"
            assert [problem["field"] for problem in early.json()["errors"]] == ["to"]
            async with persisting(settings):
                await caught_up(engine)
            closed = await client.http.get(path, params=days, headers=headers)
            assert (closed.status_code, closed.headers["hongbao-statement"]) == (200, "closed")
            name = "statement_bob_2026-02-16_2026-02-16.csv"
            assert closed.headers["content-disposition"] == f'attachment; filename="{name}"'
            assert closed.text.count("领取红包") == 1
            again = await send(engine, total_fen=300, count=3)
            await engine.claims.claim(again.packet_id, "bob")
            async with persisting(settings):
                await caught_up(engine)
            later = await client.http.get(path, params=days, headers=headers)
            assert later.content == closed.content
