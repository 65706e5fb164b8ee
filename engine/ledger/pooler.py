"""Whether a session is one: behind a pooler that lends it to others, leases, notifications and statements get lost."""

import asyncpg

from engine.errors import OperatorError
from engine.ledger.database import Connection, database_connection
from engine.ledger.failures import SESSION_LOST, WHY_SHARED
from engine.ledger.posting import PLANNED

_WHY_IGNORED = (
    "HONGBAO_DATABASE_URL leads through a pooler that ignores what a session is to be set to ({}; PgBouncer's "
    "ignore_startup_parameters): name Postgres itself."
)
_PID = "SELECT pg_backend_pid()"


async def why_pooled(url: str, held: Connection) -> str | None:
    """What is wrong with the way to Postgres, in a sentence with what to do; None: each session is one of its own.

    ``held``: a session of the same way. Two that are open at the same time never share a process of Postgres, unless
    somebody lends it to both. Raises OperatorError as ``database_connection``, asyncpg's errors.
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
    """Raise OperatorError for a way that loses what is said in a session; asyncpg's errors."""
    async with pool.acquire() as connection:
        if (why := await why_pooled(url, connection)) is not None:
            raise OperatorError(why)
