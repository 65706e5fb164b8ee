"""支付密码: six digits that a user sets, and that some operations require. Only their argon2id hash is kept.

Six digits can be guessed in a million tries, so tries are limited: a few wrong ones lock the password for hours. A try
is counted in its own transaction, so it counts even if the operation fails. The user's row is locked while the hash is
computed. So each of several simultaneous tries sees those before it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from engine.errors import (
    FieldProblem,
    HongbaoError,
    InvalidFieldsError,
    NoPaymentPasswordError,
    OverloadedError,
    PaymentPasswordLockedError,
    WrongPaymentPasswordError,
)
from engine.ledger.database import Connection, ledger_change
from engine.ledger.money import now_ms
from engine.queries import load
from engine.settings import Settings

SQL = load("payment_passwords")
HASHED_AT_ONCE = 2
"""How many hashes a process computes at a time. Each needs some tens of MiB, a core and a Postgres connection."""
WAITING_MAX = 100
"""A request is refused if more than this many wait ahead of it."""


class PaymentPasswords:
    """A process's payment passwords. Every method raises UnavailableError, and OverloadedError if too many wait."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool, self._settings = pool, settings
        self._hasher = PasswordHasher(memory_cost=settings.payment_password_hash_kib)
        self._turns = asyncio.Semaphore(HASHED_AT_ONCE)
        self.waiting = 0

    async def check(self, user_id: str, password: str) -> None:
        """Return if this is the user's payment password. A wrong one is counted.

        Raises NoPaymentPasswordError, WrongPaymentPasswordError, PaymentPasswordLockedError.
        """
        async with self._turn(), self._transaction() as connection:
            refusal = await self._try(connection, user_id, password)
        if refusal is not None:  # after the commit: the try counts
            raise refusal

    async def put(self, user_id: str, password: str, current_password: str | None) -> int:
        """Set a first payment password (``current_password`` None), or change it. Returns the time in milliseconds.

        Raises as ``check`` does, and InvalidFieldsError if the change lacks the current password.
        """
        async with self._turn():
            hashed = await asyncio.to_thread(self._hasher.hash, password)
            async with self._transaction() as connection:
                refusal, set_at_ms = await self._put(connection, user_id, hashed, current_password)
        if refusal is not None:
            raise refusal
        return set_at_ms

    async def _put(
        self, connection: Connection, user_id: str, hashed: str, current_password: str | None
    ) -> tuple[HongbaoError | None, int]:
        at_ms = await now_ms(connection)
        if current_password is None:
            if await connection.fetchval(SQL["create"], user_id, hashed, at_ms):
                return None, at_ms
            return InvalidFieldsError([FieldProblem("current_password", "is required to change the password")]), at_ms
        refusal = await self._try(connection, user_id, current_password)
        if refusal is None:
            await connection.execute(SQL["change"], user_id, hashed, at_ms)
        return refusal, at_ms

    async def _try(self, connection: Connection, user_id: str, password: str) -> HongbaoError | None:
        """Count one try. Returns the error of a wrong one: the caller raises it once the transaction is committed."""
        row = await connection.fetchrow(SQL["lock"], user_id)
        if row is None:
            return NoPaymentPasswordError("This needs a payment password: set one first.")
        at_ms = await now_ms(connection)
        if row["locked_until_ms"] is not None and row["locked_until_ms"] > at_ms:
            return _locked(row["locked_until_ms"], at_ms)
        if await asyncio.to_thread(self._matches, row["hash"], password):
            await connection.execute(SQL["count"], user_id, 0, None)
            return None
        tries_left = self._settings.payment_password_tries_max - row["wrong_tries"] - 1
        if tries_left > 0:
            await connection.execute(SQL["count"], user_id, row["wrong_tries"] + 1, None)
            return WrongPaymentPasswordError(tries_left)
        locked_until_ms = at_ms + 1_000 * self._settings.payment_password_lock_s
        await connection.execute(SQL["count"], user_id, 0, locked_until_ms)
        return _locked(locked_until_ms, at_ms)

    def _matches(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except VerifyMismatchError:
            return False

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self.waiting >= WAITING_MAX:
            raise OverloadedError("Too many payment passwords are waiting to be checked.")
        self.waiting += 1
        try:
            async with self._turns:
                yield
        finally:
            self.waiting -= 1

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        async with ledger_change(self._pool) as connection:
            yield connection


def _locked(until_ms: int, at_ms: int) -> PaymentPasswordLockedError:
    return PaymentPasswordLockedError(until_ms, -((at_ms - until_ms) // 1_000))
