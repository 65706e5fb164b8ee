"""Reconciliation of one day: Redis, events, ledger, statements and payouts, each held against the next.

It reads only, and may run at any time: what is just moving is seen where it comes from or where it goes to.
"""

import asyncpg

from engine import reconciliation_ledger, reconciliation_payouts, reconciliation_redis
from engine.database import ledger_errors
from engine.money import now_ms
from engine.payouts import PayoutProvider
from engine.reconciled import Comparison, Day
from engine.store import Store
from engine.stream import EventStream


async def reconcile(
    pool: asyncpg.Pool, store: Store, stream: EventStream, provider: PayoutProvider, day: Day
) -> list[Comparison]:
    """Compare everything of a day. Raises UnavailableError when a server or the provider does not answer."""
    with ledger_errors():
        found = [await reconciliation_redis.claims(pool, store, stream, day)]
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            found += await reconciliation_ledger.batches(connection, day)
            found += await reconciliation_ledger.packets(connection, day)
            found += await reconciliation_ledger.kinds(connection, day)
            found.append(await reconciliation_ledger.balances(connection, day))
            found += await reconciliation_ledger.statements(connection, day)
            at_ms = await now_ms(connection)
        found.append(await reconciliation_payouts.payouts(pool, provider, day, at_ms))
    return found
