"""Payouts to banks: the interface of a provider, and a sandbox that implements it.

Each payout has a reference from us. If a payout is ordered twice, the provider pays once. We ask the provider for its
decision instead of waiting for it, so the asking process may die at any moment.
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
    """The provider has a different payout with one of our references."""

    code = "payout_mismatch"


class PayoutState(StrEnum):
    """A payout's state at the provider. The last two are final."""

    PROCESSING = "processing"
    SETTLED = "settled"
    FAILED = "failed"


class PayoutOrder(NamedTuple):
    """A payout to make. ``asked_at_ms``: when the user asked for the withdrawal. The payout belongs to that day."""

    reference: str
    amount_fen: int
    bank_account: str
    asked_at_ms: int


class Payout(NamedTuple):
    """A payout in its provider's books. ``failure``: why it failed, if it did."""

    order: PayoutOrder
    state: PayoutState
    failure: str | None


class PayoutProvider(Protocol):
    """Every method raises UnavailableError if the provider does not answer. The result is unknown then."""

    async def submit(self, order: PayoutOrder) -> None:
        """Order a payout. A repeat changes nothing. Raises PayoutMismatchError for another order of this reference."""

    async def find(self, reference: str) -> Payout | None:
        """The payout as it is now, or None if it was never ordered."""

    async def of_day(self, first_ms: int, after_ms: int) -> Sequence[Payout]:
        """The payouts whose ``asked_at_ms`` is in [``first_ms``, ``after_ms``), for reconciliation."""


def reference_of(withdrawal_id: int, asked_at_ms: int) -> str:
    """A withdrawal's reference. It contains the time, so that a new ledger never repeats an old one's references."""
    return f"withdrawal-{asked_at_ms}-{withdrawal_id}"


def provider_of(pool: asyncpg.Pool, settings: Settings) -> PayoutProvider:
    """The provider in use. So far the sandbox is the only one."""
    return SandboxPayouts(pool, settings)


class SandboxPayouts:
    """Pays nobody. A payout ends ``sandbox_payout_s`` after it was ordered.

    It fails if its bank account's number ends in 0000, otherwise it settles. The sandbox keeps its books in a separate
    table, in separate transactions. So they do not depend on our books.
    """

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool, self._takes_ms = pool, int(1_000 * settings.sandbox_payout_s)

    async def submit(self, order: PayoutOrder) -> None:
        """As the provider's."""
        with ledger_errors():
            await self._pool.execute(SQL["submit"], *order, self._takes_ms)
            row = await self._pool.fetchrow(SQL["payouts"], order.reference, 0, 0)
        if row is None or _payout(row).order != order:
            raise PayoutMismatchError(f"Another payout was ordered with the reference {order.reference}.")

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
