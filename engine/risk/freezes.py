"""Frozen accounts: what they may not do, since when, and who froze them and why.

The ledger decides. Payers are stopped by the wallet's row, because they lock it. Claims are stopped by claim.lua, which
looks at a set in its lane. The set follows the ledger's list of changes: at once when a freeze is made, and otherwise
within half a second (``follow_freezes``), for example after Redis was set back.
"""

import asyncio
from dataclasses import dataclass

import asyncpg
import structlog

from engine.errors import UnavailableError
from engine.lanes.store import Store
from engine.ledger.database import Connection, ledger_change, ledger_errors
from engine.ledger.money import lock_wallet, now_ms
from engine.loops import every
from engine.queries import load
from engine.records import FreezeScope
from engine.risk.spreading import spread

LOG = structlog.get_logger()
SQL, RECOVERY = load("freezes"), load("recovery")
LISTED_MAX = 100
_FOLLOW_S = 0.5
_CHANGES_A_CALL_MAX = 1_000
_RUN_OUT_MAX = 500
_SET_BACK_MAX = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """One freeze. ``until_ms`` None: it holds until it is lifted. ``lifted_*`` None: it was not lifted."""

    freeze_id: int
    scope: FreezeScope
    reason: str
    frozen_by: str
    frozen_at_ms: int
    until_ms: int | None
    lifted_at_ms: int | None
    lifted_by: str | None
    lifted_reason: str | None


class Freezes:
    """Use cases over freezes. Each raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, store: Store) -> None:
        self._pool, self._store = pool, store

    async def freeze(
        self,
        user_id: str,
        *,
        reason: str,
        frozen_by: str,
        scope: FreezeScope = FreezeScope.ACCOUNT,
    ) -> bool:
        """Freeze until it is lifted. Returns whether every lane in Redis has it. The same again changes nothing.

        If not, those that lack it will know once they answer.
        """
        async with ledger_change(self._pool) as connection:
            await connection.execute(SQL["take_turns"])
            if not await connection.fetchval(SQL["is_held"], user_id, scope, reason, frozen_by):
                await freeze_in(connection, user_id, reason=reason, frozen_by=frozen_by, scope=scope)
        return await self.spread()

    async def lift(
        self,
        user_id: str,
        *,
        reason: str,
        lifted_by: str,
        scope: FreezeScope = FreezeScope.ACCOUNT,
        frozen_by: str | None = None,
    ) -> bool:
        """Lift every freeze of a scope, or those by ``frozen_by``. Returns as ``freeze``."""
        async with ledger_change(self._pool) as connection:
            await lift_in(connection, user_id, reason=reason, lifted_by=lifted_by, scope=scope, frozen_by=frozen_by)
        return await self.spread()

    async def of(self, user_id: str) -> list[Freeze]:
        """The user's last freezes, newest first."""
        with ledger_errors():
            rows = await self._pool.fetch(SQL["of_user"], user_id, LISTED_MAX)
        return [Freeze(**row) for row in rows]

    async def in_force(self, user_id: str) -> list[FreezeScope]:
        """What the user may not do at this moment."""
        with ledger_errors():
            rows = await self._pool.fetch(SQL["scopes"], user_id)
        return [FreezeScope(row["scope"]) for row in rows]

    async def spread(self) -> bool:
        """Bring every lane to the ledger's last change. Returns whether all are there."""
        return await spread("freezes", self._pool, self._store, SQL["newest"], follow)


async def freeze_in(
    connection: Connection,
    user_id: str,
    *,
    reason: str,
    frozen_by: str,
    scope: FreezeScope = FreezeScope.ACCOUNT,
    until_ms: int | None = None,
) -> int:
    """Freeze inside the caller's transaction. Returns the freeze's number. Call ``Freezes.spread`` after the commit.

    ``until_ms``: only for a freeze of sending. The wallet's row has its end, so no job has to lift it.
    """
    await connection.execute(SQL["take_turns"])
    wallet, at_ms = await lock_wallet(connection, user_id), await now_ms(connection)
    freeze_id: int = await connection.fetchval(SQL["add"], user_id, scope, reason, frozen_by, at_ms, until_ms)
    await _mark(connection, user_id, wallet.account_id, at_ms)
    return freeze_id


async def lift_in(
    connection: Connection,
    user_id: str,
    *,
    reason: str,
    lifted_by: str,
    scope: FreezeScope = FreezeScope.ACCOUNT,
    freeze_id: int | None = None,
    frozen_by: str | None = None,
) -> None:
    """Lift one freeze, those of a scope by ``frozen_by``, or all of the scope, as ``freeze_in`` does."""
    await connection.execute(SQL["take_turns"])
    wallet, at_ms = await lock_wallet(connection, user_id), await now_ms(connection)
    await connection.execute(SQL["lift"], user_id, scope, freeze_id, at_ms, lifted_by, reason, frozen_by)
    await _mark(connection, user_id, wallet.account_id, at_ms)


async def _mark(connection: Connection, user_id: str, account_id: int, at_ms: int) -> None:
    """Update the wallet's row, and the list that the lanes follow, to what holds now."""
    (row,) = await connection.fetch(SQL["in_force"], user_id, at_ms)
    frozen, cannot_claim, sending_until_ms = row
    await connection.execute(SQL["mark"], account_id, frozen, sending_until_ms)
    if cannot_claim is not bool(await connection.fetchval(SQL["last_change"], user_id)):
        await connection.execute(SQL["change"], user_id, cannot_claim)


async def follow(pool: asyncpg.Pool, store: Store, lane: int, newest: int) -> None:
    """Bring one lane to the ledger's last change, which is ``newest`` or later.

    Raises UnavailableError (also for a fenced lane that is not there), asyncpg's errors.
    """
    version = await store.frozen_version(lane)
    if version > newest and version > (newest := await pool.fetchval(SQL["newest"])):
        version = await _set_back(pool, store, lane, version, newest)
    while version < newest and (rows := await pool.fetch(SQL["changes"], version, _CHANGES_A_CALL_MAX)):
        last = {row["user_id"]: row["is_frozen"] for row in rows}
        frozen = [user_id for user_id, is_frozen in last.items() if is_frozen]
        lifted = [user_id for user_id, is_frozen in last.items() if not is_frozen]
        version = await store.freeze(lane, version, rows[-1]["change_id"], frozen, lifted)


async def _set_back(pool: asyncpg.Pool, store: Store, lane: int, version: int, newest: int) -> int:
    """Set a lane back to the ledger, which was restored and has lost changes that the lane has."""
    frozen = {row["user_id"] for row in await pool.fetch(RECOVERY["frozen"])}
    lifted = await store.frozen(lane) - frozen
    if len(frozen) + len(lifted) > _SET_BACK_MAX:
        raise UnavailableError(
            f"Lane {lane}'s freezes differ too much from the ledger's to patch: run `hongbao recover --lane {lane}`."
        )
    LOG.warning("freezes_set_back", lane=lane, frozen=len(frozen), lifted=len(lifted))
    return await store.freeze(lane, version, newest, sorted(frozen), sorted(lifted))


async def follow_freezes(pool: asyncpg.Pool, store: Store, stop: asyncio.Event) -> None:
    """Keep every lane at the ledger's last change, and note freezes that have ended, until ``stop`` is set."""
    freezes = Freezes(pool, store)

    async def once() -> bool:
        await freezes.spread()
        if await lift_run_out(pool):
            await freezes.spread()
        return False

    await every("freezes", _FOLLOW_S, stop, once)


async def lift_run_out(pool: asyncpg.Pool) -> int:
    """Note freezes that have ended as lifted, each user's in its own transaction. Returns the number of users."""
    users = [row["user_id"] for row in await pool.fetch(SQL["run_out"], _RUN_OUT_MAX)]
    for user_id in users:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(SQL["take_turns"])
            wallet, at_ms = await lock_wallet(connection, user_id), await now_ms(connection)
            await connection.execute(SQL["end_run_out"], user_id, at_ms)
            await _mark(connection, user_id, wallet.account_id, at_ms)
    return len(users)
