"""Checks that each session is our own. Behind a pooler that shares sessions, leases and notifications get lost."""

import asyncpg

from engine.errors import OperatorError
from engine.ledger.database import Connection, database_connection
from engine.ledger.failures import SESSION_LOST, WHY_SHARED
from engine.ledger.posting import PLANNED

_WHY_IGNORED = (
    "HONGBAO_DATABASE_URL leads through a pooler that ignores a session's settings ({}; PgBouncer's "
    "ignore_startup_parameters): name Postgres itself."
)
_PID = "SELECT pg_backend_pid()"


async def why_pooled(url: str, held: Connection) -> str | None:
    """What is wrong with the way to Postgres and what to do, in one sentence. None: no pooler shares the sessions.

    ``held``: a session made with the same URL. Two open sessions have the same process in Postgres only if a pooler
    shares it. Raises OperatorError as ``database_connection`` does, and asyncpg's errors.
    """
    other = await database_connection(url, PLANNED)
    try:
        pids = [await each.fetchval(_PID) for each in (held, other, held, other)]
        told = {name: await other.fetchval("SELECT current_setting($1)", name) for name in PLANNED}
    except SESSION_LOST:
        return WHY_SHARED
    finally:
        other.terminate()
    if pids[0] == pids[1] or pids[:2] != pids[2:]:
        return WHY_SHARED
    ignored = [name for name, value in PLANNED.items() if told[name] != value]
    return _WHY_IGNORED.format(", ".join(ignored)) if ignored else None


async def check(url: str, pool: asyncpg.Pool) -> None:
    """Raise OperatorError if a pooler shares or changes sessions, and asyncpg's errors."""
    async with pool.acquire() as connection:
        if (why := await why_pooled(url, connection)) is not None:
            raise OperatorError(why)
