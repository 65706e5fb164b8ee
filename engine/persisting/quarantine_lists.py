"""Rows in quarantine as operators look for them."""

from dataclasses import dataclass

import asyncpg

from engine.ledger.database import Connection, ledger_errors
from engine.paging import Page, page_of, parse
from engine.persisting.quarantine import SQL, Aside, aside_of

KINDS = ("claim", "opening", "ending", "unreadable")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineFilter:
    """Which rows. ``is_open`` None: open and resolved ones."""

    is_open: bool | None = True
    lane: int | None = None
    packet_id: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineTotals:
    """What is open, counted up to a bound. ``amount_fen``: of claims and refunds of money together.

    ``of_assets``: how many rows are of another asset.
    """

    rows: int
    amount_fen: int
    of_assets: int
    oldest_ms: int | None


class QuarantineLists:
    """Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def page(self, wanted: QuarantineFilter, *, after: str | None, limit: int) -> Page[Aside]:
        """Rows in the order in which they were set aside. Raises InvalidFieldsError for an invalid cursor."""
        (above,) = parse(after, parts=1, start=(0,))
        packet = None if wanted.packet_id is None else int(wanted.packet_id)
        with ledger_errors():
            if wanted.is_open:
                some = (above, wanted.lane, packet, wanted.kind, limit + 1)
                rows = await self._pool.fetch(SQL["open_listed"], *some)
            else:
                rows = await self._pool.fetch(
                    SQL["listed"], above, wanted.is_open, wanted.lane, packet, wanted.kind, limit + 1
                )
        return page_of([aside_of(row) for row in rows], limit, lambda row: str(row.quarantine_id))

    async def one(self, quarantine_id: int) -> Aside | None:
        """One row, or None."""
        with ledger_errors():
            row = await self._pool.fetchrow(SQL["listed_one"], quarantine_id)
        return None if row is None else aside_of(row)

    async def totals(self, most: int) -> QuarantineTotals:
        """What is open, counted up to ``most`` rows."""
        with ledger_errors():
            (row,) = await self._pool.fetch(SQL["open_totals"], most)
        return QuarantineTotals(**row)


async def written_off_as(connection: Connection, quarantine_id: int) -> tuple[str | None, str | None]:
    """Who has written a row off, and why."""
    row = await connection.fetchrow(SQL["resolved_as"], quarantine_id)
    return (None, None) if row is None else (row["resolved_by"], row["resolution_reason"])
