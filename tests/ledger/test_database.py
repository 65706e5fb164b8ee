"""The pool of connections to the ledger."""

import asyncpg
import pytest

from engine.ledger.database import database_pool


async def test_giving_a_connection_back_asks_postgres_nothing(database_url: str) -> None:
    asked: list[str] = []
    pool = await database_pool(database_url, connections_max=1, timeout_s=5.0)
    async with pool:
        async with pool.acquire() as connection:
            with connection.query_logger(lambda record: asked.append(record.query)):
                await connection.execute("SELECT 1")
                await pool.release(connection)
        assert asked == ["SELECT 1"]


async def test_what_was_begun_and_not_ended_is_undone_when_it_is_given_back(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    pool = await database_pool(database_url, connections_max=1, timeout_s=5.0)
    async with pool:
        async with pool.acquire() as connection:
            await connection.execute("BEGIN")
            await connection.execute("INSERT INTO schema_versions VALUES (9999)")
        assert "active transaction" in caplog.text
        async with pool.acquire() as connection:
            assert isinstance(connection, asyncpg.pool.PoolConnectionProxy)
            assert not connection.is_in_transaction()
            assert await connection.fetchval("SELECT count(*) FROM schema_versions WHERE version = 9999") == 0
