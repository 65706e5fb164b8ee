"""Freezes in force over all users, for operators; and the lifting of a single one."""

from dataclasses import dataclass
from enum import StrEnum

import asyncpg

from engine.errors import HongbaoError
from engine.ledger.database import Connection, ledger_change, ledger_errors
from engine.paging import NEWEST, Page, page_of, parse
from engine.records import FreezeScope
from engine.risk.freezes import SQL, Freeze, Freezes, lift_in


class UnknownFreezeError(HongbaoError):
    """No freeze has this number."""

    code = "unknown_freeze"


class FrozenBy(StrEnum):
    """Who froze an account."""

    RULE = "rule"
    DISPUTE = "dispute"
    OPERATOR = "operator"

    @classmethod
    def of(cls, frozen_by: str) -> "FrozenBy":
        """What a freeze's ``frozen_by`` names."""
        if frozen_by.startswith("rule:"):
            return cls.RULE
        return cls.DISPUTE if frozen_by == "dispute" else cls.OPERATOR


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeFilter:
    """Which freezes."""

    scope: FreezeScope | None = None
    by: FrozenBy | None = None
    user_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFreeze:
    """A freeze in force. ``until_ms`` None: it holds until it is lifted."""

    freeze_id: int
    user_id: str
    scope: FreezeScope
    reason: str
    frozen_by: str
    frozen_at_ms: int
    until_ms: int | None

    @property
    def by(self) -> FrozenBy:
        """Who made it."""
        return FrozenBy.of(self.frozen_by)


class FreezeLists:
    """Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def page(self, wanted: FreezeFilter, *, after: str | None, limit: int) -> Page[ListedFreeze]:
        """Freezes in force, newest first. Raises InvalidFieldsError for an invalid cursor."""
        (below,) = parse(after, parts=1, start=(NEWEST,))
        with ledger_errors():
            rows = await self._pool.fetch(
                SQL["all_in_force"], below, wanted.scope, wanted.by, wanted.user_id, limit + 1
            )
        found = [ListedFreeze(**{**row, "scope": FreezeScope(row["scope"])}) for row in rows]
        return page_of(found, limit, lambda row: str(row.freeze_id))

    async def one(self, freeze_id: int) -> tuple[str, Freeze]:
        """A freeze, and whose it is. Raises UnknownFreezeError."""
        with ledger_errors():
            row = await self._pool.fetchrow(SQL["one"], freeze_id)
        if row is None:
            raise UnknownFreezeError("No freeze has this number.")
        values = dict(row)
        user_id: str = values.pop("user_id")
        return user_id, Freeze(**{**values, "scope": FreezeScope(values["scope"])})

    async def count(self, most: int) -> int:
        """How many are in force, counted up to ``most``."""
        with ledger_errors():
            found: int = await self._pool.fetchval(SQL["in_force_count"], most)
        return found


async def lift_one(pool: asyncpg.Pool, freezes: Freezes, freeze_id: int, *, reason: str, lifted_by: str) -> bool:
    """Lift one freeze; the user's others stay. Returns as ``Freezes.freeze``. A repeat changes nothing.

    Raises UnknownFreezeError, UnavailableError.
    """
    user_id, freeze = await FreezeLists(pool).one(freeze_id)
    async with ledger_change(pool) as connection:
        await lift_in(connection, user_id, reason=reason, lifted_by=lifted_by, scope=freeze.scope, freeze_id=freeze_id)
    return await freezes.spread()


async def lifted_as(connection: Connection, freeze_id: int) -> tuple[str | None, str | None]:
    """Who has lifted a freeze, and why. It cannot be lifted until the caller's transaction has ended."""
    row = await connection.fetchrow(SQL["lifted_as"], freeze_id)
    return (None, None) if row is None else (row["lifted_by"], row["lifted_reason"])
