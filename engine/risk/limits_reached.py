"""The users that have reached the limit on what they receive per day: the ledger's list, which every lane follows.

This is not a freeze: no one made it, and it ends by itself, at a time that claim.lua knows.
"""

from dataclasses import dataclass

import asyncpg
import structlog

from engine.lanes.store import LIMITED_PER_CALL_MAX, Store
from engine.ledger.database import ledger_errors
from engine.queries import load
from engine.risk.spreading import spread

LOG = structlog.get_logger()
SQL = load("limits_reached")
FORGOTTEN_AT_ONCE = 1_000
_KEPT_MS = 30 * 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitReached:
    """A user's limit of a day, what they had received when it was reached, and when the day ends."""

    limit_fen: int
    received_fen: int
    reached_at_ms: int
    until_ms: int


class LimitsReached:
    """Use cases over the limits that are reached."""

    def __init__(self, pool: asyncpg.Pool, store: Store) -> None:
        self._pool, self._store = pool, store

    async def of(self, user_id: str, now_ms: int) -> LimitReached | None:
        """The limit that a user has reached, or None. Raises UnavailableError."""
        with ledger_errors():
            row = await self._pool.fetchrow(SQL["of_user"], user_id)
        if row is None or not row["is_reached"] or row["until_ms"] <= now_ms:
            return None
        return LimitReached(**{name: row[name] for name in LimitReached.__slots__})

    async def spread(self) -> bool:
        """Bring every lane to the ledger's last change. Returns whether all are there."""
        return await spread("limits", self._pool, self._store, SQL["newest"], follow)


async def follow(pool: asyncpg.Pool, store: Store, lane: int, newest: int) -> None:
    """Bring one lane to the ledger's last change, which is ``newest`` or later.

    Raises UnavailableError (also for a fenced lane that is not there), asyncpg's errors.
    """
    version = await store.limited_version(lane)
    if version > newest and version > (newest := await pool.fetchval(SQL["newest"])):
        LOG.warning("limits_set_back", lane=lane, version=version, newest=newest)  # the ledger was restored
        version = await store.limit(lane, version, 0, {})
    while version < newest:
        rows = await pool.fetch(SQL["changes"], version, LIMITED_PER_CALL_MAX)
        last = rows[-1]["change_id"] if rows else newest
        version = await store.limit(lane, version, last, {row["user_id"]: row["until_ms"] for row in rows})


async def forget(pool: asyncpg.Pool) -> bool:
    """Forget some of the limits that were over 30 days ago. Returns whether there may be more.

    Nobody asks for them: a limit says nothing about another day. Raises asyncpg's errors.
    """
    forgotten = await pool.fetchval(SQL["forget"], _KEPT_MS, FORGOTTEN_AT_ONCE)
    return bool(forgotten == FORGOTTEN_AT_ONCE)
