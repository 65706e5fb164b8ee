"""Brings open withdrawals to their end: orders the payout from the provider, and books its result.

Nothing is recorded in between. The provider says whether a payout was ordered, and ordering it twice makes one payout.
So a process may die anywhere, and several may run. A withdrawal ends once, in the transaction that moves its money.
"""

import asyncio

import asyncpg
import structlog

from engine.errors import HongbaoError
from engine.ledger.database import Connection, ledger_change
from engine.ledger.money import BANK_ACCOUNT, FEE_ACCOUNT, PAYOUT_ACCOUNT, lock_wallet, move, now_ms
from engine.loops import PASSING, every, outlived, stopped_within
from engine.settings import Settings
from engine.wallets.payouts import Payout, PayoutMismatchError, PayoutOrder, PayoutProvider, PayoutState, reference_of
from engine.wallets.withdrawals import SQL

LOG = structlog.get_logger()
PAGE_MAX = 100
_FAILURE_LENGTH_MAX = 200


async def pay_out(pool: asyncpg.Pool, provider: PayoutProvider, settings: Settings, stop: asyncio.Event) -> None:
    """Go over the open withdrawals again and again until ``stop`` is set. Failures are logged and retried."""
    after = 0

    async def once() -> bool:
        nonlocal after
        begin, after = after, 0  # after an error, start from the beginning
        rows = await pool.fetch(SQL["processing"], begin, PAGE_MAX)
        for row in rows:
            if stop.is_set():
                return False
            try:
                await advance(pool, provider, row["withdrawal_id"], order_of(row))
            except PASSING as error:
                outlived("payouts", error, withdrawal_id=row["withdrawal_id"])
                # The other withdrawals still get their turn, but slowly: the provider may be away.
                await stopped_within(stop, settings.payout_interval_s)
        after = rows[-1]["withdrawal_id"] if len(rows) == PAGE_MAX else 0
        return after > 0

    await every("payouts", settings.payout_interval_s, stop, once)


async def advance(pool: asyncpg.Pool, provider: PayoutProvider, withdrawal_id: int, order: PayoutOrder) -> None:
    """Order a withdrawal's payout, or book its end.

    Raises UnavailableError, and PayoutMismatchError if the provider has another payout with this reference.
    """
    payout = await provider.find(order.reference)
    if payout is None:
        await provider.submit(order)
    elif payout.order != order:
        raise PayoutMismatchError(f"The provider has another payout with the reference {order.reference}.")
    elif payout.state is not PayoutState.PROCESSING:
        await end(pool, withdrawal_id, payout)


async def end(pool: asyncpg.Pool, withdrawal_id: int, payout: Payout) -> bool:
    """Book the result of a withdrawal's payout. Returns whether this call did it. Raises UnavailableError."""
    async with ledger_change(pool) as connection:
        row = await connection.fetchrow(SQL["lock_processing"], withdrawal_id)
        if row is None:
            return False
        at_ms = await now_ms(connection)
        moved = _settle if payout.state is PayoutState.SETTLED else _give_back
        transfers = await moved(connection, row, at_ms)
        failure = None
        if payout.state is PayoutState.FAILED:
            failure = (payout.failure or "the provider gave no reason")[:_FAILURE_LENGTH_MAX]
        await connection.execute(SQL["end"], withdrawal_id, payout.state, failure, *transfers, at_ms)
    LOG.info("withdrawal_ended", withdrawal_id=withdrawal_id, state=payout.state.value, failure=failure)
    return True


async def _settle(connection: Connection, row: asyncpg.Record, at_ms: int) -> tuple[int, int | None]:
    paid = await _from_payouts(connection, "payout", BANK_ACCOUNT, row["amount_fen"], at_ms)
    if not row["fee_fen"]:
        return paid, None
    return paid, await _from_payouts(connection, "fee", FEE_ACCOUNT, row["fee_fen"], at_ms)


async def _give_back(connection: Connection, row: asyncpg.Record, at_ms: int) -> tuple[int, int | None]:
    wallet = await lock_wallet(connection, row["user_id"])
    held_fen = row["amount_fen"] + row["fee_fen"]
    return await _from_payouts(connection, "withdrawal_return", wallet.account_id, held_fen, at_ms), None


async def _from_payouts(connection: Connection, kind: str, payee: int, amount_fen: int, at_ms: int) -> int:
    transfer_id = await move(connection, kind, payer=PAYOUT_ACCOUNT, payee=payee, amount_fen=amount_fen, at_ms=at_ms)
    if transfer_id is None:
        raise HongbaoError("The payout account holds less than the open withdrawals; `hongbao audit` says more.")
    return transfer_id


def order_of(row: asyncpg.Record) -> PayoutOrder:
    """What the provider is asked to pay for a withdrawal."""
    reference = reference_of(row["withdrawal_id"], row["asked_at_ms"])
    return PayoutOrder(reference, row["amount_fen"], row["bank_account"], row["asked_at_ms"])
