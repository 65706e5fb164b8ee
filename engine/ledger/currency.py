"""The ledger's currency. It never changes, because an amount of yuan cannot become one of coupons."""

import asyncpg

from engine.errors import OperatorError
from engine.ledger.database import Connection
from engine.queries import load

SQL = load("currency")
YUAN = "CNY"
SCALE = 2
"""Amounts are hundredths of it."""


async def currency_of(source: asyncpg.Pool | Connection) -> str:
    """The ledger's currency. It is yuan if an older release made the ledger and no newer one has started on it."""
    return await source.fetchval(SQL["currency"]) or YUAN


async def keep(pool: asyncpg.Pool, currency: str) -> None:
    """Write a new ledger's currency. Raises OperatorError if the ledger has another, and asyncpg's errors."""
    if await pool.fetchval(SQL["currency"]) is None:
        await pool.execute(SQL["keep"], currency)
    if (why := await why_another(pool, currency)) is not None:
        raise OperatorError(why)


async def why_another(source: asyncpg.Pool | Connection, currency: str) -> str | None:
    """Return a sentence if the ledger's currency is not the setting's. Raises asyncpg's errors."""
    held = await source.fetchval(SQL["currency"])
    if held in (None, currency):
        return None
    return (
        f"The ledger counts in {held}, and HONGBAO_CURRENCY is {currency}: set it to {held}, or use another database."
    )


def unit_of(currency: str) -> str:
    """A currency's or another asset's name in Chinese pages and files."""
    return "元" if currency == YUAN else currency
