"""How far the ledger is behind: as gauges, and as what `up` says when it stops."""

import pytest

from engine.engine import Engine
from engine.errors import UnavailableError
from engine.lanes import keys
from engine.observability import metrics
from engine.persisting import lag
from engine.settings import Settings
from tests.support.scenes import caught_up, changed, persisting, send
from tests.support.waiting import wait_until


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """One lane, so that a test knows which."""
    return changed(settings, lanes=1)


async def test_what_is_not_in_the_ledger_is_counted_or_not_known(engine: Engine, settings: Settings) -> None:
    sent = await send(engine, count=3)
    await engine.claims.claim(sent.packet_id, "bob")
    assert await lag.changes_behind(engine.pool, engine.store) == 2  # opened, and claimed
    async with persisting(settings):
        await caught_up(engine)
    assert await lag.changes_behind(engine.pool, engine.store) == 0
    await engine.pool.execute(
        "INSERT INTO quarantine (lane, position, kind, at_ms, reason) VALUES (0, 1, 'unreadable', 1, 'a test')"
    )
    assert await lag.changes_behind(engine.pool, engine.store) == 1
    await engine.redis.delete(keys.lane(0))
    with pytest.raises(UnavailableError, match="Lane 0 is fenced: Redis has lost it"):
        await lag.changes_behind(engine.pool, engine.store)


async def test_the_gauges_say_how_far_the_ledger_is_behind(engine: Engine, settings: Settings) -> None:
    async def gauges() -> tuple[float, float, float]:
        await lag.measure(engine.pool, engine.store, engine.stream)
        named = (metrics.PERSISTER_LAG_EVENTS, metrics.BACKLOG, metrics.PERSISTER_LAG_SECONDS)
        behind, backlog, behind_s = (gauge.labels("0")._value.get() for gauge in named)
        return behind, backlog, behind_s

    persisted = metrics.PERSISTED_EVENTS.labels("0")._value.get()
    assert await gauges() == (0, 0, 0)
    sent = await send(engine, total_fen=1_000, count=100)
    await engine.claims.claim_many([(sent.packet_id, f"user{number}") for number in range(60)])

    async def are_seconds_told() -> bool:
        return (await gauges())[2] > 0

    await wait_until(are_seconds_told, what="an event's growing old")
    assert (await gauges())[:2] == (61, 61)
    async with persisting(settings):
        await caught_up(engine)
    assert await gauges() == (0, 0, 0)
    assert metrics.PERSISTED_EVENTS.labels("0")._value.get() == persisted + 61
