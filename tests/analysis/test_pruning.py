"""Old volumes of the ledger are not read for new days, and within a volume only the parts that are from these days."""

from collections.abc import AsyncIterator
from datetime import date, timedelta

import asyncpg
import pytest

from engine.analysis.scope import SQL, reading
from engine.calendar.china_time import begin_ms
from engine.engine import Engine
from engine.settings import Settings
from tests.support.analysis_scene import DAY_MS, Scene
from tests.support.ledger_volumes import begin

DAY = date(2023, 1, 10)
AT = begin_ms(DAY)
TERM = 200
"""Days between the beginnings of two volumes here."""


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """A ledger with the volumes 10 to 13, in each of which packets are sent and claimed on its first days."""
    async with Engine.open(settings) as engine:
        for volume in range(10, 14):
            if volume > 10:
                assert await begin(engine) == volume
            begun_ms = AT + (volume - 10) * TERM * DAY_MS
            await engine.pool.execute("UPDATE volumes SET begun_at_ms = $1 WHERE volume = $2", begun_ms, volume)
            scene = Scene(volume=volume, first_wallet=volume * 10_000)
            for day in range(5):
                at_ms = begun_ms + day * DAY_MS
                scene.packet(f"alice-{volume}", 2, 200, at_ms, [(f"bob-{volume}", at_ms), (f"ced-{volume}", at_ms + 9)])
            async with engine.pool.acquire() as connection:
                await scene.write(connection)
        await engine.pool.execute("ANALYZE")
        yield engine.pool


async def looked_into(pool: asyncpg.Pool, block: str, first: date, last: date, *more: object) -> set[str]:
    """The volumes that a question about these days reads, by Postgres's plan."""
    async with reading(pool, first, last) as reader:
        values = (reader.scope.from_ms, reader.scope.until_ms, None, reader.first_number, reader.end_number)
        rows = await reader.connection.fetch(f"EXPLAIN {SQL[block]}", *values, *more)
    plan = "\n".join(row[0] for row in rows)
    return {str(volume) for volume in range(10, 14) if f" on transfers_{volume} " in plan}


@pytest.mark.long
@pytest.mark.parametrize(
    ("days", "volumes"),
    [
        (0, {"10"}),
        (TERM - 1, {"10", "11"}),  # clocks may differ by a day
        (TERM + 1, {"10", "11"}),  # what was sent before may still be claimed
        (TERM + 150, {"11"}),
        (2 * TERM + 150, {"12"}),
        (3 * TERM + 150, {"13"}),
    ],
)
@pytest.mark.parametrize("block", ["busiest", "shares", "refunds", "activity_claims", "receiving"])
async def test_a_question_reads_the_volumes_that_may_have_entries_of_the_days(
    pool: asyncpg.Pool, block: str, days: int, volumes: set[str]
) -> None:
    day = DAY + timedelta(days=days)
    assert await looked_into(pool, block, day, day) == volumes


async def test_no_entry_is_left_out_with_a_volume(pool: asyncpg.Pool) -> None:
    for volume in range(4):
        for day in range(5):
            at = DAY + timedelta(days=volume * TERM + day)
            async with reading(pool, at, at) as reader:
                rows = await reader.claims(SQL["activity_claims"])
                sent = await reader.packets(SQL["activity_sends"])
            assert [row["claims"] for row in rows] == [2]
            assert [row["packets"] for row in sent] == [1]


async def test_each_volume_has_its_times(pool: asyncpg.Pool) -> None:
    found = await pool.fetch("SELECT tablename FROM pg_indexes WHERE indexdef LIKE '%USING brin (at_ms)%'")
    assert {row["tablename"] for row in found} == {"transfers", *(f"transfers_{volume}" for volume in range(10, 14))}
