"""What the ledger counts in: one currency for ever, since an amount of yuan cannot become one of coupons."""

import asyncpg

from engine.errors import OperatorError
from engine.ledger.database import Connection
from engine.queries import load

SQL = load("currency")
YUAN = "CNY"


async def currency_of(source: asyncpg.Pool | Connection) -> str:
    """The ledger's currency; yuan for one that no process has been started on since it can have another."""
    return await source.fetchval(SQL["currency"]) or YUAN


async def keep(pool: asyncpg.Pool, currency: str) -> None:
    """Write a new ledger's currency. Raises OperatorError where the ledger has another; asyncpg's errors."""
    if await pool.fetchval(SQL["currency"]) is None:
        await pool.execute(SQL["keep"], currency)
    if (why := await why_another(pool, currency)) is not None:
        raise OperatorError(why)


async def why_another(source: asyncpg.Pool | Connection, currency: str) -> str | None:
    """A sentence, where the ledger has another currency than the setting. Raises asyncpg's errors."""
    held = await source.fetchval(SQL["currency"])
    if held in (None, currency):
        return None
    return (
        f"The ledger counts in {held}, and HONGBAO_CURRENCY is {currency}: set it to {held}, or use another database."
    )


def unit_of(currency: str) -> str:
    """What Chinese pages and files call it."""
    return "元" if currency == YUAN else currency
