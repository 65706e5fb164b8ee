"""Disputes as operators work through them: by deadline, by user, by packet; and what upholding one would do."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import asyncpg

from engine.disputes.filing import SQL, Dispute, DisputeKind, DisputeState, read
from engine.errors import UnknownDisputeError
from engine.ledger.database import Connection, ledger_errors
from engine.ledger.money import now_ms
from engine.paging import NEWEST, Page, page_of, parse
from engine.records import PacketState

SOON_MS = 24 * 3_600_000
"""A dispute that is due within this time is due soon."""
LISTED_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeFilter:
    """Which disputes. ``state`` None: decided ones, whatever the outcome. ``due_before_ms``: only of open ones.

    ``assigned_to``: those of this operator. ``is_for_nobody``: only those that are assigned to nobody.
    """

    state: DisputeState | None = DisputeState.OPEN
    kind: DisputeKind | None = None
    user_id: str | None = None
    due_before_ms: int | None = None
    assigned_to: str | None = None
    is_for_nobody: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedDispute:
    """One line. ``counterparty`` None: it is about a system fault."""

    dispute_id: str
    kind: DisputeKind
    number: str
    complainant: str
    counterparty: str | None
    amount_fen: int
    filed_at_ms: int
    earliest_at_ms: int
    deadline_at_ms: int
    deadline_is_provisional: bool
    state: DisputeState
    decided_at_ms: int | None
    decided_by: str | None
    returned_fen: int | None
    assigned_to: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeCounts:
    """How many wait, counted up to a bound. ``due_soon`` includes the overdue ones."""

    open: int
    due_soon: int
    overdue: int
    first_deadline_at_ms: int | None


class Effect(StrEnum):
    """What upholding a dispute does."""

    TRANSFER = "transfer"  # the amount moves from the counterparty to the complainant
    DEBT = "debt"  # the counterparty's wallet holds less: nothing moves, and they owe it
    RETURN = "return"  # the packet ends now, and what is unclaimed goes back
    NOTHING_LEFT = "nothing_left"  # the packet has ended already: what was unclaimed went back


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What upholding would do at this moment. ``payer_fen``: what the counterparty's wallet holds.

    ``lifts_freeze``: either decision lifts the freeze that the dispute made.
    """

    effect: Effect
    amount_fen: int
    payer_fen: int | None
    lifts_freeze: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeFile:
    """A dispute with what an operator needs to decide it. ``preview`` None: it is decided."""

    dispute: Dispute
    decided_by: str | None
    assigned_to: str | None
    preview: Preview | None


class DisputeLists:
    """Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def page(self, wanted: DisputeFilter, *, after: str | None, limit: int) -> Page[ListedDispute]:
        """Open disputes by deadline, or decided ones with the last first. Raises InvalidFieldsError for a cursor."""
        whose = (wanted.assigned_to, wanted.is_for_nobody)
        if wanted.state is DisputeState.OPEN:
            last = parse(after, parts=2, start=(-1, 0))
            due_ms = NEWEST if wanted.due_before_ms is None else wanted.due_before_ms
            some: tuple[Any, ...] = (*last, wanted.kind, wanted.user_id, due_ms, *whose, limit + 1)
            rows = await self._rows(SQL["open_page"], *some)
            return page_of(_listed(rows), limit, lambda row: f"{row.deadline_at_ms}-{row.dispute_id}")
        last = parse(after, parts=2, start=(NEWEST, NEWEST))
        some = (*last, wanted.kind, wanted.user_id, wanted.state, *whose, limit + 1)
        rows = await self._rows(SQL["decided_page"], *some)
        return page_of(_listed(rows), limit, lambda row: f"{row.decided_at_ms}-{row.dispute_id}")

    async def of_user(self, user_id: str) -> list[ListedDispute]:
        """The last disputes in which a user is a party, newest first."""
        return _listed(await self._rows(SQL["of_party"], user_id, LISTED_MAX))

    async def of_packet(self, packet_id: str) -> list[ListedDispute]:
        """The last disputes about a packet, newest first."""
        return _listed(await self._rows(SQL["of_packet"], int(packet_id), LISTED_MAX))

    async def counts(self, most: int) -> DisputeCounts:
        """How many wait, counted up to ``most``."""
        with ledger_errors():
            at_ms = await now_ms(self._pool)
            (row,) = await self._pool.fetch(SQL["due_counts"], at_ms, at_ms + SOON_MS, most)
        return DisputeCounts(**row)

    async def one(self, dispute_id: int) -> DisputeFile:
        """A dispute with its evidence, and what upholding it would do now. Raises UnknownDisputeError."""
        with ledger_errors():
            dispute = await read(self._pool, dispute_id)
            row = await self._pool.fetchrow(SQL["decision"], dispute_id)
        if dispute is None or row is None:
            raise UnknownDisputeError("No dispute has this number.")
        is_open = dispute.state is DisputeState.OPEN
        return DisputeFile(
            dispute=dispute,
            decided_by=row["decided_by"],
            assigned_to=row["assigned_to"],
            preview=_preview(dispute, row) if is_open else None,
        )

    async def _rows(self, query: str, *values: object) -> list[asyncpg.Record]:
        with ledger_errors():
            return list(await self._pool.fetch(query, *values))


async def assign_in(connection: Connection, dispute_id: int, to: str | None) -> bool:
    """Assign an open dispute to an operator (None: to nobody) in the caller's transaction. False: it is not open."""
    return await connection.fetchval(SQL["assign"], dispute_id, to) is not None


async def decided_as(connection: Connection, dispute_id: int) -> tuple[str | None, str | None]:
    """Who has decided a dispute, and why. It cannot be decided until the caller's transaction has ended."""
    row = await connection.fetchrow(SQL["decided_as"], dispute_id)
    return (None, None) if row is None else (row["decided_by"], row["decision_reason"])


def _preview(dispute: Dispute, row: asyncpg.Record) -> Preview:
    if dispute.kind is DisputeKind.SYSTEM_FAULT:
        has_ended = row["packet_state"] not in (PacketState.OPEN, PacketState.FUNDED)
        effect = Effect.NOTHING_LEFT if has_ended else Effect.RETURN
    else:
        effect = Effect.TRANSFER if (row["payer_fen"] or 0) >= dispute.amount_fen else Effect.DEBT
    return Preview(
        effect=effect,
        amount_fen=dispute.amount_fen,
        payer_fen=row["payer_fen"],
        lifts_freeze=row["freeze_id"] is not None,
    )


def _listed(rows: Sequence[asyncpg.Record]) -> list[ListedDispute]:
    found = []
    for row in rows:
        values = {**row, "dispute_id": str(row["dispute_id"]), "number": str(row["packet_id"])}
        del values["packet_id"]
        values["kind"], values["state"] = DisputeKind(row["kind"]), DisputeState(row["state"])
        found.append(ListedDispute(**values))
    return found
