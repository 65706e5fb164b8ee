"""Payouts: what pays to banks, behind an interface, and a sandbox that stands in for it.

A provider is told each payout by a reference of ours: told twice, it pays once. What it has decided is asked for, not
awaited, so the process that asks may die at any moment.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

import asyncpg

from engine.errors import HongbaoError
from engine.ledger.database import ledger_errors
from engine.queries import load
from engine.settings import Settings

SQL = load("payouts")


class PayoutMismatchError(HongbaoError):
    """The provider knows another payout by the reference of one of ours."""

    code = "payout_mismatch"


class PayoutState(StrEnum):
    """What a provider says of a payout; the last two are final."""

    PROCESSING = "processing"
    SETTLED = "settled"
    FAILED = "failed"


class PayoutOrder(NamedTuple):
    """What is to be paid. ``asked_at_ms``: when the withdrawal was asked; the payout belongs to that day."""

    reference: str
    amount_fen: int
    bank_account: str
    asked_at_ms: int


class Payout(NamedTuple):
    """A payout by its provider's books. ``failure``: why, of one that failed."""

    order: PayoutOrder
    state: PayoutState
    failure: str | None


class PayoutProvider(Protocol):
    """Every method raises UnavailableError when the provider does not answer; then nothing is known."""

    async def submit(self, order: PayoutOrder) -> None:
        """Order a payout. The same order again changes nothing; another one of its reference: PayoutMismatchError."""

    async def find(self, reference: str) -> Payout | None:
        """The payout as it is now; None when it was never ordered."""

    async def of_day(self, first_ms: int, after_ms: int) -> Sequence[Payout]:
        """The payouts whose withdrawals were asked from ``first_ms`` until before ``after_ms``, for reconciliation."""


def reference_of(withdrawal_id: int, asked_at_ms: int) -> str:
    """A withdrawal's reference. With its time, so that a ledger that begins anew does not repeat those before it."""
    return f"withdrawal-{asked_at_ms}-{withdrawal_id}"


def provider_of(pool: asyncpg.Pool, settings: Settings) -> PayoutProvider:
    """The provider in use: the sandbox, which is the only one there is."""
    return SandboxPayouts(pool, settings)


class SandboxPayouts:
    """Pays nobody. A payout ends ``sandbox_payout_s`` after it was ordered: one to a bank account that ends in 0000

    fails, any other settles. Its books are a table of its own, written in transactions of its own, so what it knows
    does not depend on what we know.
    """

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool, self._takes_ms = pool, int(1_000 * settings.sandbox_payout_s)

    async def submit(self, order: PayoutOrder) -> None:
        """As the provider's."""
        with ledger_errors():
            await self._pool.execute(SQL["submit"], *order, self._takes_ms)
            row = await self._pool.fetchrow(SQL["payouts"], order.reference, 0, 0)
        if row is None or _payout(row).order != order:
            raise PayoutMismatchError(f"Another payout was ordered as {order.reference}.")

    async def find(self, reference: str) -> Payout | None:
        """As the provider's."""
        with ledger_errors():
            row = await self._pool.fetchrow(SQL["payouts"], reference, 0, 0)
        return None if row is None else _payout(row)

    async def of_day(self, first_ms: int, after_ms: int) -> Sequence[Payout]:
        """As the provider's."""
        with ledger_errors():
            return [_payout(row) for row in await self._pool.fetch(SQL["payouts"], None, first_ms, after_ms)]


def _payout(row: asyncpg.Record) -> Payout:
    order = PayoutOrder(row["reference"], row["amount_fen"], row["bank_account"], row["asked_at_ms"])
    return Payout(order, PayoutState(row["state"]), row["failure"])
