"""Takes in the coupons whose time is over, some at a time: their units go back to the issuer.

Nobody can redeem such a coupon in the meantime, because Postgres's clock decides that. So this may run late or twice.
"""

import asyncio
from collections import Counter

import asyncpg

from engine.coupons.batches import Batch, Batches
from engine.ledger.database import Connection, ledger_change
from engine.ledger.money import move, now_ms
from engine.loops import every
from engine.queries import load
from engine.records import CouponState

SQL = load("coupons")
INTERVAL_S = 2.0
"""How often it looks for batches whose time is over."""
CHUNK = 200
"""How many coupons are taken in by one transaction, which locks the issuer: some 50 ms."""
_BATCHES = 100


async def follow_coupons(pool: asyncpg.Pool, batches: Batches, stop: asyncio.Event) -> None:
    """Take in what has expired, again and again until ``stop`` is set. Failures are logged and retried."""
    after: dict[int, int] = {}
    page = 0

    async def once() -> bool:
        nonlocal page
        rows = await pool.fetch(SQL["batches_over"], page, _BATCHES)
        has_more = False
        for row in rows:
            batch_id = row["batch_id"]
            last = await expire_some(pool, await batches.known(batch_id), after.pop(batch_id, 0))
            if last is not None:
                after[batch_id], has_more = last, True
        page = rows[-1]["batch_id"] if len(rows) == _BATCHES else 0
        return has_more or page > 0

    await every("coupons", INTERVAL_S, stop, once)


async def expire_some(pool: asyncpg.Pool, batch: Batch, after: int) -> int | None:
    """Take in some of a batch's coupons, with numbers above ``after``. Its time must be over.

    Returns the last number that was looked at, or None after the last: then what nobody was given is taken in, too.
    Raises UnavailableError.
    """
    async with ledger_change(pool) as connection:
        rows = await connection.fetch(SQL["held_of_batch"], batch.batch_id, after, CHUNK)
        if rows:
            await _expire(connection, batch, {row["number"]: row["holder"] for row in rows})
    if len(rows) == CHUNK:
        return int(rows[-1]["number"])
    async with ledger_change(pool) as connection:
        await _expire_unsent(connection, batch)
        await connection.execute(SQL["close_batch"], batch.batch_id)
    return None


async def _expire(connection: Connection, batch: Batch, held: dict[int, str]) -> None:
    counts = Counter(held.values())
    accounts = await connection.fetch(SQL["lock_accounts"], list(counts), batch.asset)
    at_ms, entries = await now_ms(connection), {}
    for row in accounts:
        if row["kind"] == "holding":
            entries[row["owner"]] = await _move(connection, batch, row["account_id"], counts[row["owner"]], at_ms)
    transfers = [entries[holder] for holder in held.values()]
    values = (batch.batch_id, CouponState.EXPIRED, at_ms, list(held), transfers)
    await connection.execute(SQL["end_coupons"], *values)


async def _expire_unsent(connection: Connection, batch: Batch) -> None:
    """Take in what the owner never sent, or never uploaded a code for. Their accounts are locked as for a sending."""
    accounts = await connection.fetch(SQL["lock_accounts"], [batch.owner], batch.asset)
    (locked,) = await connection.fetch(SQL["lock_batch"], batch.batch_id)
    unsent = sum(row["count"] for row in await connection.fetch(SQL["all_free"], batch.batch_id))
    never_uploaded = 0
    if batch.terms.codes == "uploaded":
        never_uploaded = locked["count"] - locked["uploaded"] - locked["never_uploaded"]
    if unsent + never_uploaded:
        holding = next(row["account_id"] for row in accounts if row["kind"] == "holding")
        await _move(connection, batch, holding, unsent + never_uploaded, await now_ms(connection))
        await connection.execute(SQL["expire_unsent"], batch.batch_id, unsent, never_uploaded)


async def _move(connection: Connection, batch: Batch, holding: int, count: int, at_ms: int) -> int:
    transfer_id = await move(
        connection, "coupon_expire", payer=holding, payee=batch.issuer, amount_fen=count, at_ms=at_ms
    )
    if transfer_id is None:
        raise AssertionError("whoever holds coupons has their units in the ledger")
    return transfer_id
