"""申诉: a sender disputes a payment or a share of it. Sets the deadline, and freezes the counterparty if necessary.

The disputed payment is in the ledger before the dispute is filed. Claims are never undone: a decision makes a new
ledger entry (``engine.disputes.deciding``).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from typing import Any, NamedTuple

import asyncpg
import orjson

from engine.calendar.china_time import begin_ms, day_of
from engine.calendar.working_days import is_planned, working_day
from engine.errors import (
    BelowManualHandlingError,
    DisputeOpenError,
    FieldProblem,
    InvalidFieldsError,
    NotSenderError,
    TooManyDisputesError,
    UnknownDisputeError,
    UnknownTransactionError,
)
from engine.lanes.store import Store
from engine.ledger.database import Connection, ledger_change, ledger_errors
from engine.ledger.money import now_ms
from engine.queries import load
from engine.risk.freezes import Freezes, freeze_in
from engine.settings import Settings
from engine.text import LINE_CHARACTERS, TEXT_RULE, is_readable

SQL = load("disputes")
FROZEN_BY = "dispute"
EVIDENCE_MAX, EVIDENCE_LENGTH_MAX = 20, 2_000


class DisputeKind(StrEnum):
    """The complaint."""

    FRAUD = "fraud"  # the counterparty, who has a share, is frozen while the dispute is open
    MINOR = "minor"  # a child paid
    SYSTEM_FAULT = "system_fault"  # unclaimed shares are refunded to the sender


class DisputeState(StrEnum):
    """``open -> upheld | rejected``. The last two are final."""

    OPEN = "open"
    UPHELD = "upheld"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """A dispute. ``amount_fen``: the disputed amount (for a system fault, the packet's total).

    It must be decided between ``earliest_at_ms`` and ``deadline_at_ms``. An earlier decision is also accepted. An
    upheld dispute has a correcting ``transfer_id`` or a ``debt_id``. For a system fault it has ``returned_fen`` (None
    until the packet has ended in the ledger).
    ``deadline_is_provisional``: the two times may change, because the working days of their year are not published
    yet. ``evidence`` None: the counterparty does not see it.
    """

    dispute_id: str
    kind: DisputeKind
    number: str
    complainant: str
    counterparty: str | None
    amount_fen: int
    transaction_at_ms: int
    evidence: list[str] | None
    filed_at_ms: int
    earliest_at_ms: int
    deadline_at_ms: int
    deadline_is_provisional: bool
    state: DisputeState
    decided_at_ms: int | None
    decision_reason: str | None
    transfer_id: str | None
    debt_id: str | None
    returned_fen: int | None


class Due(NamedTuple):
    """When a dispute must be decided: from, until, and in how many working days (None: not in working days)."""

    earliest_at_ms: int
    deadline_at_ms: int
    is_provisional: bool
    earliest_days: int | None
    deadline_days: int | None


class Complaint(NamedTuple):
    """A sender's complaint. ``at_ms``: when they paid. ``counterparty``: has a share (None for a system fault)."""

    kind: DisputeKind
    number: str
    at_ms: int
    counterparty: str | None
    evidence: Sequence[str]


class Disputes:
    """A complainant's use cases. Every method raises UnavailableError if a server that it needs does not answer."""

    def __init__(self, pool: asyncpg.Pool, store: Store, freezes: Freezes, settings: Settings) -> None:
        self._pool, self._store, self._freezes, self._settings = pool, store, freezes, settings

    async def file(self, complainant: str, complaint: Complaint) -> Dispute:
        """File a dispute. While it is open, a repeat returns the same dispute.

        Raises InvalidFieldsError, UnknownTransactionError, NotSenderError if the user is only a claimant,
        BelowManualHandlingError, TooManyDisputesError, DisputeOpenError if a different dispute about it is open.
        """
        check(complainant, complaint)
        async with ledger_change(self._pool) as connection:
            await connection.execute(SQL["take_turns"], complainant)
            amount_fen = await self._amount(connection, complainant, complaint)
            dispute_id = await _open_one(connection, complainant, complaint)
            if dispute_id is None:
                dispute_id = await self._file(connection, complainant, complaint, amount_fen)
        if complaint.kind is DisputeKind.FRAUD:
            await self._freezes.spread()
        return await self.get(dispute_id, complainant, sees_all=False)

    async def _file(self, connection: Connection, complainant: str, complaint: Complaint, amount_fen: int) -> int:
        filed_at_ms = await now_ms(connection)
        if complaint.kind is not DisputeKind.SYSTEM_FAULT:
            await self._check_limits(connection, complainant, amount_fen, filed_at_ms)
            if await connection.fetchval(SQL["is_decided"], int(complaint.number), complaint.counterparty):
                raise DisputeOpenError("A dispute about this share has already been upheld.")
        freeze_id = None
        if complaint.kind is DisputeKind.FRAUD and complaint.counterparty is not None:
            reason = f"a fraud dispute about {complaint.number} is open"
            freeze_id = await freeze_in(connection, complaint.counterparty, reason=reason, frozen_by=FROZEN_BY)
        # In a thread: the first use of a year computes its holidays, and this takes a while.
        due = await asyncio.to_thread(due_of, complaint.kind, filed_at_ms, self._settings)
        values = (
            *(complaint.kind, int(complaint.number), complainant, complaint.counterparty, amount_fen),
            *(complaint.at_ms, orjson.dumps(list(complaint.evidence)).decode(), filed_at_ms),
            *due,
            freeze_id,
        )
        dispute_id: int = await connection.fetchval(SQL["file"], *values)
        return dispute_id

    async def _check_limits(self, connection: Connection, complainant: str, amount_fen: int, filed_at_ms: int) -> None:
        above_fen, most = self._settings.dispute_above_fen, self._settings.disputes_a_year_max
        if amount_fen <= above_fen:
            raise BelowManualHandlingError(f"Only amounts above {above_fen} fen can be disputed; this is {amount_fen}.")
        year = date(day_of(filed_at_ms).year, 1, 1)
        if await connection.fetchval(SQL["filed_since"], complainant, begin_ms(year)) >= most:
            why = f"You can file {most} disputes per calendar year: try again next year."
            raise TooManyDisputesError(why, begin_ms(date(year.year + 1, 1, 1)))

    async def _amount(self, connection: Connection, complainant: str, complaint: Complaint) -> int:
        """The disputed amount. Raises unless the complainant paid it at that time and the counterparty has a share."""
        row = await connection.fetchrow(SQL["transaction"], int(complaint.number), complainant, complaint.counterparty)
        if row is None:
            raise UnknownTransactionError("No packet has this number.")
        if row["sender"] != complainant:
            if row["has_share"] or await self._store.claim_of(complaint.number, complainant) is not None:
                raise NotSenderError("Only the sender of a packet or transfer can dispute it.")
            raise UnknownTransactionError("Somebody else's packet.")
        problems = []
        if row["asset"] is not None:
            problems.append(FieldProblem("number", f"must be of money: this is of {row['asset']}"))
        if complaint.at_ms // 1_000 != row["created_at_ms"] // 1_000:
            problems.append(FieldProblem("at_ms", "must be the time of your payment, to the second"))
        is_fault = complaint.kind is DisputeKind.SYSTEM_FAULT
        amount_fen: int | None = row["total_fen"] if is_fault else row["their_fen"]
        if amount_fen is None:
            problems.append(FieldProblem("counterparty", "must be a user whose share of it is in the ledger"))
        if problems or amount_fen is None:
            raise InvalidFieldsError(problems)
        return amount_fen

    async def get(self, dispute_id: int, user_id: str | None, *, sees_all: bool) -> Dispute:
        """A dispute, for one of its parties or a caller that ``sees_all``. Raises UnknownDisputeError.

        ``user_id`` None is never a party, although a system fault's counterparty is None, too.
        """
        with ledger_errors():
            dispute = await read(self._pool, dispute_id)
        if dispute is not None and (sees_all or user_id == dispute.complainant):
            return dispute
        if dispute is not None and user_id is not None and user_id == dispute.counterparty:
            return replace(dispute, evidence=None)
        raise UnknownDisputeError("No dispute that you may see has this number.")


async def read(source: asyncpg.Pool | Connection, dispute_id: int) -> Dispute | None:
    """A dispute as it is now. Raises asyncpg's errors."""
    row = await source.fetchrow(SQL["dispute"], dispute_id)
    if row is None:
        return None
    values: dict[str, Any] = {**row, "kind": DisputeKind(row["kind"]), "state": DisputeState(row["state"])}
    return Dispute(**{**values, "evidence": orjson.loads(row["evidence"])})


async def _open_one(connection: Connection, complainant: str, complaint: Complaint) -> int | None:
    """The open dispute about the same share. Raises DisputeOpenError if its kind or evidence differ."""
    row = await connection.fetchrow(SQL["open_one"], int(complaint.number), complainant, complaint.counterparty)
    if row is None:
        return None
    if row["kind"] != complaint.kind or orjson.loads(row["evidence"]) != list(complaint.evidence):
        raise DisputeOpenError(f"Dispute {row['dispute_id']} about it is open with a different kind or evidence.")
    dispute_id: int = row["dispute_id"]
    return dispute_id


def check(complainant: str, complaint: Complaint) -> None:
    """The checks that need no ledger. Raises InvalidFieldsError naming every bad field."""
    problems = [
        FieldProblem(f"evidence[{place}]", TEXT_RULE)
        for place, text in enumerate(complaint.evidence)
        if not is_readable(text, allowed=LINE_CHARACTERS) or not text
    ]
    if complaint.kind is DisputeKind.SYSTEM_FAULT and complaint.counterparty is not None:
        problems.append(FieldProblem("counterparty", "must not be given for a system fault"))
    if complaint.kind is not DisputeKind.SYSTEM_FAULT and complaint.counterparty is None:
        problems.append(FieldProblem("counterparty", "is required"))
    if complaint.counterparty == complainant:
        problems.append(FieldProblem("counterparty", "must be another user"))
    if problems:
        raise InvalidFieldsError(problems)


def deadlines(kind: DisputeKind, filed_at_ms: int, settings: Settings) -> tuple[int, int]:
    """The times between which it must be decided. Days are China's working days after the day of filing."""
    due = due_of(kind, filed_at_ms, settings)
    return due.earliest_at_ms, due.deadline_at_ms


def due_of(kind: DisputeKind, filed_at_ms: int, settings: Settings) -> Due:
    """As ``deadlines``, with the numbers of days."""
    if kind is DisputeKind.SYSTEM_FAULT:
        return Due(filed_at_ms, filed_at_ms + settings.dispute_system_fault_s * 1_000, False, None, None)
    return due_after(filed_at_ms, *working_days_of(kind, settings))


def working_days_of(kind: DisputeKind, settings: Settings) -> tuple[int, int]:
    """The smallest and the largest number of working days for a dispute."""
    if kind is DisputeKind.FRAUD:
        return settings.dispute_fraud_days_min, settings.dispute_fraud_days_max
    return settings.dispute_minor_days_min, settings.dispute_minor_days_max


def due_after(filed_at_ms: int, earliest_days: int, deadline_days: int) -> Due:
    """The times after these numbers of working days, by what is known of the calendar now."""
    first, last = (working_day(day_of(filed_at_ms), number) for number in (earliest_days, deadline_days))
    deadline_at_ms = begin_ms(last) + 86_400_000
    return Due(begin_ms(first), deadline_at_ms, not is_planned(last), earliest_days, deadline_days)
