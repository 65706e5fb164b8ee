"""Compares a day's withdrawals with the payout provider's own records.

A withdrawal is in the ledger before its payout is ordered, and it ends there after the provider has ended the payout.
So the provider is asked first. If the ledger seems to be ahead, the provider is asked again.
"""

from collections.abc import Mapping
from enum import StrEnum

import asyncpg

from engine.auditing.comparison import Comparison, Day, Differences, Side, Subject
from engine.queries import load
from engine.wallets.payouts import Payout, PayoutProvider, PayoutState, reference_of

SQL = load("reconciliation")
LATE_MS = 3_600_000
"""How long after its request a withdrawal may be behind its payout or have no payout."""


class _Lag(StrEnum):
    NO_PAYOUT = "no payout was ordered"
    BEHIND = "the ledger says processing"


async def payouts(pool: asyncpg.Pool, provider: PayoutProvider, day: Day, now_ms: int) -> Comparison:
    """Compare reference, amount, bank account and state of each. Raises UnavailableError, asyncpg's errors."""
    known = {payout.order.reference: payout for payout in await provider.of_day(*day)}
    ours, theirs, differences = Side(what="withdrawals"), Side(what="payouts of the provider"), Differences()
    for row in await pool.fetch(SQL["withdrawals"], *day):
        reference = reference_of(row["withdrawal_id"], row["asked_at_ms"])
        payout = known.pop(reference, None)
        if payout is None or _difference(row, payout):
            payout = await provider.find(reference)
        lag = _lag(row, payout)
        if payout is not None:
            theirs.add(payout.order.amount_fen)
        if lag is not _Lag.NO_PAYOUT or now_ms - row["asked_at_ms"] > LATE_MS:
            ours.add(row["amount_fen"])
        told = _told(row, payout, is_late=now_ms - row["asked_at_ms"] > LATE_MS)
        if told:
            sentence = f"withdrawal {row['withdrawal_id']} of {row['amount_fen']} fen ({reference}): {told}"
            differences.add(sentence, Subject(withdrawal_id=str(row["withdrawal_id"])))
    _strangers(known, theirs, differences)
    return differences.of("withdrawals: payouts", ours, theirs)


def _strangers(known: Mapping[str, Payout], theirs: Side, differences: Differences) -> None:
    for reference, payout in known.items():
        theirs.add(payout.order.amount_fen)
        differences.add(f"payout {reference} of {payout.order.amount_fen} fen: no withdrawal of the day has it")


def _lag(row: asyncpg.Record, payout: Payout | None) -> _Lag | None:
    """A difference that is normal for a while."""
    if row["state"] != PayoutState.PROCESSING:
        return None
    if payout is None:
        return _Lag.NO_PAYOUT
    return None if payout.state is PayoutState.PROCESSING else _Lag.BEHIND


def _told(row: asyncpg.Record, payout: Payout | None, *, is_late: bool) -> str | None:
    lag = _lag(row, payout)
    if payout is None:
        is_told = is_late or lag is None
        return f"it is {row['state']}, and {_Lag.NO_PAYOUT}" if is_told else None
    difference = _difference(row, payout)
    if difference is None and lag is not None and is_late:
        return f"the provider says {payout.state.value}, {lag}"
    return difference


def _difference(row: asyncpg.Record, payout: Payout) -> str | None:
    """A difference that is never normal."""
    order = payout.order
    if order.amount_fen != row["amount_fen"]:
        return f"the provider has {order.amount_fen} fen"
    if order.bank_account != row["bank_account"]:
        return "the provider pays to another bank account"
    if row["state"] not in (payout.state, PayoutState.PROCESSING):
        return f"it is {row['state']}, the provider says {payout.state.value}"
    return None
