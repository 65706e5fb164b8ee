"""Reconciliation of one day: compares Redis, events, ledger, statements and payouts, each with the next.

It only reads, and may run at any time: moving money is seen at its source or at its destination.
"""

import asyncpg

from engine.auditing import day_ledger, day_payouts, day_redis
from engine.auditing.comparison import Comparison, Day
from engine.lanes.reader import LaneReader
from engine.lanes.stream import EventStream
from engine.ledger.database import ledger_errors
from engine.ledger.money import now_ms
from engine.wallets.payouts import PayoutProvider


async def reconcile(
    pool: asyncpg.Pool, store: LaneReader, stream: EventStream, provider: PayoutProvider, day: Day
) -> list[Comparison]:
    """Compare everything of a day. Raises UnavailableError if a server or the provider does not answer."""
    with ledger_errors():
        found = await day_redis.claims(pool, store, stream, day)
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            found += await day_ledger.batches(connection, day)
            found += await day_ledger.packets(connection, day)
            found += await day_ledger.kinds(connection, day)
            found += await day_ledger.balances(connection, day)
            found += await day_ledger.statements(connection, day)
            at_ms = await now_ms(connection)
        found.append(await day_payouts.payouts(pool, provider, day, at_ms))
    return found
