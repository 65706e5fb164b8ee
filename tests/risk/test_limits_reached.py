"""What is kept of limits that were reached on days long ago."""

import pytest

from engine.engine import Engine
from engine.risk import limits_reached
from engine.settings import Settings
from tests.support.scenes import sweeping
from tests.support.waiting import wait_until

DAY_MS = 86_400_000
ADD = """
INSERT INTO limits_reached (user_id, is_reached, limit_fen, received_fen, at_ms, until_ms)
SELECT 'user-' || number, TRUE, 5, 5, 1, floor(extract(epoch FROM clock_timestamp()) * 1000) - $1::bigint
FROM generate_series(1, $2::integer) AS number
"""


async def count(engine: Engine) -> int:
    """How many are kept."""
    kept: int = await engine.pool.fetchval("SELECT count(*) FROM limits_reached")
    return kept


async def test_those_of_days_long_ago_are_forgotten_some_at_a_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits_reached, "FORGOTTEN_AT_ONCE", 3)
    await engine.pool.execute(ADD, 31 * DAY_MS, 4)
    await engine.pool.execute(ADD, 29 * DAY_MS, 2)
    assert await limits_reached.forget(engine.pool)
    assert await count(engine) == 3
    assert not await limits_reached.forget(engine.pool)
    assert await count(engine) == 2  # those of 29 days ago


async def test_the_newest_is_kept_whatever_its_age(engine: Engine) -> None:
    """A lane that has followed up to it must not take the ledger for one that was set back."""
    await engine.pool.execute(ADD, 40 * DAY_MS, 4)
    newest = await engine.pool.fetchval("SELECT max(change_id) FROM limits_reached")
    assert await engine.limits_reached.spread()
    assert not await limits_reached.forget(engine.pool)
    assert await engine.pool.fetchval("SELECT array_agg(change_id) FROM limits_reached") == [newest]
    assert await engine.limits_reached.spread()
    for lane in engine.lanes:
        assert await engine.store.limited_version(lane) == newest


async def test_the_sweeper_forgets_them(engine: Engine, settings: Settings) -> None:
    await engine.pool.execute(ADD, 31 * DAY_MS, 4)
    async with sweeping(settings):

        async def is_done() -> bool:
            return await count(engine) == 1

        await wait_until(is_done, timeout_s=10, what="the old limits to be forgotten")
