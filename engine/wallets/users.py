"""Users as operators look for them: by how their id begins, and what they hold besides money."""

from dataclasses import dataclass

import asyncpg

from engine.ledger.database import ledger_errors
from engine.paging import Page, page_of
from engine.queries import load

SQL = load("wallet")
_AFTER_ALL = "\x7f"
"""Greater than every character of a user id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedUser:
    """A user with a wallet. ``sending_frozen_until_ms``: until when sending is frozen, or was."""

    user_id: str
    balance_fen: int
    frozen: bool
    sending_frozen_until_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a user has of an asset that is not money, in 10^-scale of it."""

    asset: str
    name: str
    scale: int
    balance_fen: int


class Users:
    """Reads the ledger. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def page(self, prefix: str, *, after: str | None, limit: int) -> Page[ListedUser]:
        """Users whose id begins with ``prefix``, in the order of ids. ``after``: the last user of the page before."""
        with ledger_errors():
            rows = await self._pool.fetch(SQL["users"], prefix, after or "", prefix + _AFTER_ALL, limit + 1)
        return page_of([ListedUser(**row) for row in rows], limit, lambda user: user.user_id)

    async def exists(self, user_id: str) -> bool:
        """Whether a user has a wallet."""
        with ledger_errors():
            rows = await self._pool.fetch(SQL["users"], user_id, "", user_id + "\x01", 1)
        return bool(rows)

    async def holdings(self, user_id: str, *, after: str | None, limit: int) -> Page[Holding]:
        """What a user has besides money, in the order of assets."""
        with ledger_errors():
            rows = await self._pool.fetch(SQL["holdings"], user_id, after or "", limit + 1)
        return page_of([Holding(**row) for row in rows], limit, lambda holding: holding.asset)
