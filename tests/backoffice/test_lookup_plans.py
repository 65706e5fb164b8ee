"""No list of operators reads a large table from end to end: each has an index that gives its order."""

import asyncpg
import pytest

from benchmarks.lookups import Recorded, fill, lists_on, read_whole

pytestmark = pytest.mark.long

WHOLE = {"labels": {"packets"}}
"""A page of labels covers so much of so small a ledger that an index does not pay. On a large one it does."""


async def test_each_list_goes_along_an_index(database_url: str) -> None:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=1) as pool:
        async with pool.acquire() as connection:
            await fill(connection, 200_000)
            await connection.execute("SET random_page_cost = 1.1")
        for name, page in lists_on(recorded := Recorded(pool)).items():
            recorded.queries.clear()
            first = await page(None)
            after = getattr(first, "next", None)
            if after is not None:
                second = await page(after)
                assert second.rows != first.rows, name
            assert await read_whole(pool, recorded.queries) <= WHOLE.get(name, set()), name


@pytest.mark.parametrize("entries", [1_000])
async def test_the_filled_ledger_is_counted_day_by_day(database_url: str, entries: int) -> None:
    from engine.auditing.day_movements import count_on

    async with asyncpg.create_pool(database_url, min_size=1, max_size=1) as pool:
        async with pool.acquire() as connection:
            await fill(connection, entries * 30)
        while await count_on(pool, step_max=entries):
            pass
        counted = await pool.fetchval("SELECT sum(count) FROM day_movements")
        assert counted == await pool.fetchval("SELECT count(*) FROM transfers")
        differing = await pool.fetchval(
            """
            SELECT count(*) FROM day_movements FULL JOIN (
                SELECT DATE '1970-01-01' + ((at_ms + 28800000) / 86400000)::integer AS day, kind::text AS kind,
                    count(*) AS count, sum(amount_fen) AS fen
                FROM transfers GROUP BY 1, 2
            ) AS really USING (day, kind)
            WHERE day_movements.count IS DISTINCT FROM really.count OR day_movements.fen IS DISTINCT FROM really.fen
            """
        )
        assert differing == 0
