"""Replay: what a retry would do is told without doing it, and many are retried oldest first."""

import hashlib
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from engine.ids import new_packet_number
from engine.lanes.topology import Topology
from engine.persisting.quarantine import Quarantine
from engine.persisting.quarantine_lists import QuarantineFilter, QuarantineLists
from tests.support.books import Books, claim, expired, opening
from tests.support.scenes import assert_books_balance


@pytest.fixture
def quarantine(books: Books, redis: Redis) -> Quarantine:
    return Quarantine(books.connection, Topology.of_one(redis), 600_000)


async def checksums(connection: asyncpg.Connection) -> dict[str, str]:
    """A digest of every row of every table."""
    tables = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
    )
    found = {}
    for (table,) in tables:
        rows = await connection.fetch(f"SELECT t::text FROM {table} AS t ORDER BY 1")
        found[table] = hashlib.sha256("\n".join(row[0] for row in rows).encode()).hexdigest()
    return found


async def unknown_packet(books: Books) -> int:
    """A packet whose changes came before it was there: three rows in quarantine."""
    number = int(new_packet_number(0))
    await books.apply(opening(number), claim(number, "bob", 0, 60), expired(number, 2, 40))
    return number


async def test_a_dry_run_changes_no_table_and_tells_what_would_be(books: Books, quarantine: Quarantine) -> None:
    number = await unknown_packet(books)
    rows = [row async for row in quarantine.rows()]
    before = await checksums(books.connection)
    for row in rows:
        (told,) = await quarantine.dry_run([row.quarantine_id])
        assert (told.would_resolve, told.after) == (False, None)
        assert "still breaks a rule" in told.sentence
    await books.packet(total_fen=100, count=3, number=number)
    before = await checksums(books.connection)
    opens, gives, ends = await quarantine.dry_run([row.quarantine_id for row in rows])
    assert opens.before is not None
    assert opens.after is not None
    assert (opens.before.packet_state, opens.after.packet_state) == ("funded", "open")
    assert gives.before is not None
    assert gives.after is not None
    assert (gives.before.custody_fen, gives.after.custody_fen) == (100, 40)
    assert (gives.before.user_fen, gives.after.user_fen) == (0, 60)
    assert ends.after is not None
    assert (ends.after.packet_state, ends.after.custody_fen, ends.would_resolve) == ("expired", 0, True)
    (alone,) = await quarantine.dry_run([rows[2].quarantine_id])
    assert (alone.would_resolve, alone.after) == (False, None)  # its packet was never opened
    assert await checksums(books.connection) == before
    (written,) = await quarantine.dry_run([rows[1].quarantine_id], writes_off=True)
    assert "has not ended" in written.sentence
    assert await checksums(books.connection) == before
    assert [told.sentence for told in await quarantine.dry_run([999])] == ["there is no row with this number"]


async def test_all_are_retried_oldest_first_and_each_fate_is_told(books: Books, quarantine: Quarantine) -> None:
    number = await unknown_packet(books)
    twice = await books.packet(total_fen=100, count=3)
    await books.apply(opening(twice), claim(twice, "bob", 0, 50), claim(twice, "bob", 1, 30))
    await books.packet(total_fen=100, count=3, number=number)
    ids = [row.quarantine_id async for row in quarantine.rows()]
    results = [result async for result in quarantine.retry_all(by="root")]
    assert [result.quarantine_id for result in results] == sorted(ids)
    assert [result.resolved for result in results] == [True, True, True, False]
    again = [result async for result in quarantine.retry_all(by="root")]
    assert [result.quarantine_id for result in again] == [ids[-1]]
    await assert_books_balance(books.connection)


async def test_some_are_retried_oldest_first_whatever_their_order(books: Books, quarantine: Quarantine) -> None:
    number = await unknown_packet(books)
    await books.packet(total_fen=100, count=3, number=number)
    ids = [row.quarantine_id async for row in quarantine.rows()]
    results = [result async for result in quarantine.retry_all([ids[1], ids[0], ids[1], 999], by="root")]
    assert [(result.quarantine_id, result.resolved) for result in results] == [
        (ids[0], True),
        (ids[1], True),
        (999, False),
    ]
    assert len([result async for result in quarantine.retry_all(by="root", at_most=1)]) == 1


async def test_rows_are_listed_by_each_filter(books: Books, quarantine: Quarantine, database_url: str) -> None:
    number = await unknown_packet(books)
    await books.packet(total_fen=100, count=3, number=number)
    await quarantine.retry(await anext(row.quarantine_id async for row in quarantine.rows()), by="root")
    async with asyncpg.create_pool(database_url, min_size=1, max_size=1) as pool:
        lists = QuarantineLists(pool)

        async def kinds(**wanted: Any) -> list[str]:  # noqa: ANN401  # those of the filter
            found, after = list[str](), None
            while True:
                page = await lists.page(QuarantineFilter(**wanted), after=after, limit=1)
                found += [row.kind for row in page.rows]
                if (after := page.next) is None:
                    return found

        assert await kinds() == ["claim", "ending"]
        assert await kinds(is_open=None) == ["opening", "claim", "ending"]
        assert await kinds(is_open=False) == ["opening"]
        assert await kinds(kind="claim", lane=0, packet_id=str(number)) == ["claim"]
        assert await kinds(lane=1) == []
        totals = await lists.totals(10)
        assert (totals.rows, totals.amount_fen) == (2, 100)
        assert (await lists.totals(1)).rows == 1
        found = await lists.one(1)
        assert found is not None
        assert await lists.one(999) is None
