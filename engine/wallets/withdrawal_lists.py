"""Withdrawals of all users, for operators. Of a bank account only its end is shown."""

from dataclasses import dataclass

import asyncpg

from engine.errors import UnknownWithdrawalError
from engine.ledger.database import ledger_errors
from engine.paging import NEWEST, Page, page_of, parse
from engine.wallets.paying_out import advance, order_of
from engine.wallets.payouts import PayoutProvider, reference_of
from engine.wallets.withdrawals import SQL, WithdrawalState


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalFilter:
    """Which withdrawals. Times are of asking, ``before_ms`` exclusive."""

    state: WithdrawalState | None = None
    user_id: str | None = None
    from_ms: int | None = None
    before_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedWithdrawal:
    """One line. ``bank_account_end``: its last four characters. ``reference``: by which the provider knows it."""

    withdrawal_id: str
    user_id: str
    amount_fen: int
    fee_fen: int
    bank_account_end: str
    state: WithdrawalState
    failure: str | None
    reference: str
    asked_at_ms: int
    ended_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessingCount:
    """How many withdrawals are under way, counted up to a bound, and when the oldest was asked for."""

    waiting: int
    oldest_ms: int | None


class WithdrawalLists:
    """Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def page(self, wanted: WithdrawalFilter, *, after: str | None, limit: int) -> Page[ListedWithdrawal]:
        """Withdrawals, newest first. Raises InvalidFieldsError for an invalid cursor."""
        (below,) = parse(after, parts=1, start=(NEWEST,))
        before_ms = NEWEST if wanted.before_ms is None else wanted.before_ms
        some = (below, wanted.state, wanted.from_ms or 0, before_ms, wanted.user_id, limit + 1)
        with ledger_errors():
            rows = await self._pool.fetch(SQL["all"], *some)
        found = [
            ListedWithdrawal(
                **{
                    **row,
                    "withdrawal_id": str(row["withdrawal_id"]),
                    "state": WithdrawalState(row["state"]),
                    "reference": reference_of(row["withdrawal_id"], row["asked_at_ms"]),
                }
            )
            for row in rows
        ]
        return page_of(found, limit, lambda row: row.withdrawal_id)

    async def one(self, withdrawal_id: int) -> ListedWithdrawal:
        """One withdrawal. Raises UnknownWithdrawalError."""
        found = await self.page(WithdrawalFilter(), after=str(withdrawal_id + 1), limit=1)
        if not found.rows or found.rows[0].withdrawal_id != str(withdrawal_id):
            raise UnknownWithdrawalError("No withdrawal has this number.")
        return found.rows[0]

    async def processing(self, most: int) -> ProcessingCount:
        """How many are under way, counted up to ``most``."""
        with ledger_errors():
            (row,) = await self._pool.fetch(SQL["processing_count"], most)
        return ProcessingCount(**row)


async def ask_again(pool: asyncpg.Pool, provider: PayoutProvider, withdrawal_id: int) -> bool:
    """Ask the provider about a withdrawal now: order its payout or book its end, as the sweeper does.

    Returns False if it is not under way (any more). Raises UnavailableError, PayoutMismatchError.
    """
    with ledger_errors():
        row = await pool.fetchrow(SQL["to_advance"], withdrawal_id)
    if row is None:
        return False
    await advance(pool, provider, withdrawal_id, order_of(row))
    return True
