"""Delayed arrival 延迟到账: a user chooses after how long all their transfers arrive.

The choice may be changed a few times per month. The longest delay needs the payment password, so that nobody else can
lock up a user's money or make a thief believe that it has left.
"""

from datetime import timedelta

import asyncpg

from engine.calendar.china_time import begin_ms, day_of
from engine.errors import FieldProblem, InvalidFieldsError, TooManyChangesError
from engine.ledger.database import ledger_change, ledger_errors
from engine.ledger.money import lock_wallet, now_ms
from engine.queries import load
from engine.settings import Settings
from engine.wallets.payment_passwords import PaymentPasswords

SQL = load("delays")


class Delays:
    """Use cases of a user's choice. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, passwords: PaymentPasswords, settings: Settings) -> None:
        self._pool, self._passwords, self._settings = pool, passwords, settings

    async def of(self, user_id: str) -> int:
        """The user's choice in seconds. 0: transfers wait for confirmation."""
        with ledger_errors():
            return await self._pool.fetchval(SQL["delay"], user_id) or 0

    async def choose(self, user_id: str, arrives_after_s: int, payment_password: str | None) -> None:
        """Change the choice. The same choice again changes nothing.

        Raises InvalidFieldsError, TooManyChangesError, and what ``PaymentPasswords.check`` raises.
        """
        settings = self._settings
        known = (0, settings.transfer_delay_s_short, settings.transfer_delay_s_long)
        if arrives_after_s not in known:
            raise InvalidFieldsError([FieldProblem("arrives_after_s", f"must be {known[0]}, {known[1]} or {known[2]}")])
        if arrives_after_s == settings.transfer_delay_s_long:
            if payment_password is None:
                raise InvalidFieldsError([FieldProblem("payment_password", "is required for the longest delay")])
            await self._passwords.check(user_id, payment_password)
        async with ledger_change(self._pool) as connection:
            await lock_wallet(connection, user_id)  # so that two simultaneous changes are counted one by one
            if (await connection.fetchval(SQL["delay"], user_id) or 0) == arrives_after_s:
                return
            at_ms = await now_ms(connection)
            month = day_of(at_ms).replace(day=1)
            most = settings.delay_changes_a_month_max
            if await connection.fetchval(SQL["changes_since"], user_id, begin_ms(month)) >= most:
                why = f"The delay can be changed {most} times per month: try again next month."
                raise TooManyChangesError(why, begin_ms((month + timedelta(days=31)).replace(day=1)))
            await connection.execute(SQL["change_delay"], user_id, arrives_after_s, at_ms)
