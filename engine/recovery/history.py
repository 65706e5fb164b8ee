"""The rebuildings of lanes, as the ledger has noted them."""

from dataclasses import dataclass

import asyncpg

from engine.ledger.database import ledger_errors
from engine.paging import NEWEST, Page, page_of, parse
from engine.queries import load

SQL = load("recovery")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """One rebuilding. ``ended_at_ms`` None: it was broken off or goes on; the counts are None then, too.

    ``changes_lost`` None: nobody knows. ``position``: the ledger's checkpoint at that time.
    """

    recovery_id: int
    lane: int
    position: int
    reason: str
    changes_lost: int | None
    started_at_ms: int
    ended_at_ms: int | None
    packets: int | None
    claims: int | None
    shares_left: int | None


async def recoveries(pool: asyncpg.Pool, *, lane: int | None, after: str | None, limit: int) -> Page[Recovery]:
    """Rebuildings of all lanes or of one, newest first. Raises InvalidFieldsError, UnavailableError."""
    (below,) = parse(after, parts=1, start=(NEWEST,))
    with ledger_errors():
        rows = await pool.fetch(SQL["history"], below, lane, limit + 1)
    return page_of([Recovery(**row) for row in rows], limit, lambda row: str(row.recovery_id))
