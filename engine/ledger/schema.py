"""Migrations: plain SQL files. Each is applied once, in order, in its own transaction."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

import asyncpg

from engine.errors import OperatorError
from engine.ledger.database import Connection, database_connection
from engine.ledger.failures import OPERATORS_ERRORS, sentence_of

_LOCK = 0x686F6E6762616F  # one migration at a time per database; the number spells "hongbao"
_MIGRATION_S_MAX = 86_400.0
"""One may read all the books. Whoever has waited long enough can end it: then it has changed nothing."""
_FILE = re.compile(r"(\d{4})_\w+\.sql")


def migrations() -> list[tuple[int, str]]:
    """This release's versions and their SQL, in order."""
    folder = files("engine").joinpath("sql/migrations")
    return sorted(
        (int(matched[1]), file.read_text(encoding="utf-8"))
        for file in folder.iterdir()
        if (matched := _FILE.fullmatch(file.name))
    )


async def migrate(database_url: str) -> list[int]:
    """Bring the database to this release's schema. Returns the applied versions (none if it was up to date).

    Raises OperatorError if Postgres cannot be reached or its schema is newer than this release.
    """
    applied = []
    async with _connected(database_url) as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute("CREATE TABLE IF NOT EXISTS schema_versions (version INTEGER PRIMARY KEY)")
        current = await _current(connection)
        for version, sql in migrations():
            if version > current:
                async with connection.transaction():
                    await connection.execute(sql, timeout=_MIGRATION_S_MAX)
                    await connection.execute("INSERT INTO schema_versions VALUES ($1)", version)
                applied.append(version)
    return applied


async def check(database_url: str) -> None:
    """Raise OperatorError unless the database has exactly this release's schema."""
    async with _connected(database_url) as connection:
        await _check(connection)


async def check_in(pool: asyncpg.Pool) -> None:
    """The same on a connection that is there already: another one costs Postgres a process."""
    try:
        async with pool.acquire() as connection:
            await _check(connection)
    except OPERATORS_ERRORS as error:
        raise OperatorError(sentence_of(error)) from None


async def _check(connection: Connection) -> None:
    known = await connection.fetchval("SELECT to_regclass('schema_versions')")
    current = await _current(connection) if known else 0
    if current < migrations()[-1][0]:
        raise OperatorError("The database's schema is older than this release: run `hongbao migrate` first.")


async def _current(connection: Connection) -> int:
    current: int = await connection.fetchval("SELECT coalesce(max(version), 0) FROM schema_versions")
    latest = migrations()[-1][0]
    if current > latest:
        raise OperatorError(
            f"The database's schema is version {current}, newer than this release's {latest}: upgrade hongbao."
        )
    return current


@asynccontextmanager
async def _connected(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await database_connection(database_url)
    try:
        yield connection
    except OPERATORS_ERRORS as error:
        raise OperatorError(sentence_of(error)) from None
    finally:
        await connection.close()
