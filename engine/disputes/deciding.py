"""Decides each dispute once. The same transaction books a correction or a debt.

It also carries out decisions: packets that a system fault sent end before their time.
"""

import asyncio

import asyncpg
import structlog

from engine.disputes.filing import SQL, Dispute, DisputeKind, DisputeState, due_after, read, working_days_of
from engine.errors import DisputeDecidedError, HongbaoError, UnknownDisputeError, after_change
from engine.lanes.replies import CloseReason
from engine.lanes.store import Store
from engine.ledger.database import Connection, ledger_change, ledger_errors
from engine.ledger.money import move, now_ms
from engine.loops import every
from engine.observability.repeats import repeats
from engine.risk import alerts
from engine.risk.freezes import SQL as FREEZES
from engine.risk.freezes import Freezes, lift_in
from engine.settings import Settings

LOG = structlog.get_logger()
_PAGE_MAX = 100
_LOOK_S = 1.0


class DisputeDecisions:
    """An admin's use cases. Raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, store: Store, freezes: Freezes) -> None:
        self._pool, self._store, self._freezes = pool, store, freezes

    async def decide(self, dispute_id: int, outcome: DisputeState, *, reason: str, decided_by: str) -> Dispute:
        """Uphold or reject. The same outcome again changes nothing and returns the dispute.

        Raises UnknownDisputeError, and DisputeDecidedError if the dispute has the other outcome.
        """
        async with ledger_change(self._pool) as connection:
            freed = await _decide(connection, dispute_id, outcome, reason, decided_by)
        if freed:
            await self._freezes.spread()
        with after_change(), ledger_errors():
            await give_back(self._pool, self._store, dispute_id)
            dispute = await read(self._pool, dispute_id)
        if dispute is None:
            raise AssertionError("a dispute is never removed")
        return dispute


async def _decide(connection: Connection, dispute_id: int, outcome: DisputeState, reason: str, decided_by: str) -> bool:
    """Decide inside the caller's transaction. Returns whether this may have lifted a freeze."""
    found = await read(connection, dispute_id)
    if found is None:
        raise UnknownDisputeError("No dispute has this number.")
    # The locks are taken in the same order as in filing: the complainant's turn, the freezes', then wallets.
    await connection.execute(SQL["take_turns"], found.complainant)
    row = await connection.fetchrow(SQL["lock"], dispute_id)
    if row is None:
        raise AssertionError("a dispute is never removed")
    if row["state"] != DisputeState.OPEN:
        if row["state"] != outcome:
            raise DisputeDecidedError(f"This dispute is already {row['state']}; a decision is final.")
        return False
    await connection.execute(FREEZES["take_turns"])
    at_ms, transfer_id = await now_ms(connection), None
    if outcome is DisputeState.UPHELD and row["kind"] != DisputeKind.SYSTEM_FAULT:
        transfer_id = await _correct(connection, dispute_id, row, at_ms)
    await connection.execute(SQL["decide"], dispute_id, outcome, at_ms, decided_by, reason, transfer_id)
    if row["freeze_id"] is None:
        return False
    why = f"dispute {dispute_id} was {outcome.value}"
    await lift_in(connection, row["counterparty"], reason=why, lifted_by=decided_by, freeze_id=row["freeze_id"])
    return True


async def _correct(connection: Connection, dispute_id: int, row: asyncpg.Record, at_ms: int) -> int | None:
    """Move the disputed amount, even from a frozen wallet, or record a debt. Returns the entry's number."""
    payer, payee = [await connection.fetchval(SQL["wallet"], row[name]) for name in ("counterparty", "complainant")]
    amount_fen: int = row["amount_fen"]
    transfer_id = await move(connection, "correction", payer=payer, payee=payee, amount_fen=amount_fen, at_ms=at_ms)
    if transfer_id is None:
        await connection.execute(SQL["owe"], dispute_id, row["counterparty"], row["complainant"], amount_fen, at_ms)
    return transfer_id


async def give_back(pool: asyncpg.Pool, store: Store, dispute_id: int | None = None, *, after: int = 0) -> int:
    """End the packets of upheld system faults before their time, and record what was unclaimed once the ledger has it.

    Works on one dispute, or on a page of those with numbers above ``after``. Returns ``after`` of the next page (0
    after the last), so that a packet that cannot end does not block others. The persister refunds the sender. Until
    then Redis may lose the end, so it is requested again. Raises UnavailableError only for Postgres.
    """
    with ledger_errors():
        rows = await pool.fetch(SQL["to_return"], dispute_id, after, _PAGE_MAX)
    for row in rows:
        if row["remaining_fen"] is not None:
            with ledger_errors():
                await pool.execute(SQL["returned"], row["dispute_id"], row["remaining_fen"])
            continue
        try:
            await store.close(str(row["packet_id"]), CloseReason.RETURNED)
        except HongbaoError as error:
            if times := repeats.times(("not_given_back", row["dispute_id"]), str(error)):
                LOG.warning("not_given_back", dispute_id=row["dispute_id"], error=str(error), times=times)
    return rows[-1]["dispute_id"] if len(rows) == _PAGE_MAX else 0


async def tell_overdue(pool: asyncpg.Pool, settings: Settings) -> int:
    """Raise one alert per overdue dispute. Returns how many. Raises asyncpg's errors."""
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(SQL["tell_overdue"], await now_ms(connection), _PAGE_MAX)
        for row in rows:
            await alerts.note(
                connection,
                "dispute_overdue",
                row["complainant"],
                is_delivered=settings.webhook_url is not None,
                dispute_id=str(row["dispute_id"]),
                dispute_kind=row["kind"],
                number=str(row["packet_id"]),
                deadline_at_ms=row["deadline_at_ms"],
                deadline_is_provisional=row["deadline_is_provisional"],
            )
    return len(rows)


async def settle_deadlines(pool: asyncpg.Pool, settings: Settings, *, after: int = 0) -> int:
    """Compute provisional deadlines again if this release knows the year's working days by now.

    Works on a page of disputes with numbers above ``after``. Returns ``after`` of the next page, 0 after the last.
    Raises asyncpg's errors.
    """
    rows = await pool.fetch(SQL["provisional"], after, _PAGE_MAX)
    for row in rows:
        days = working_days_of(DisputeKind(row["kind"]), settings)
        if row["deadline_days"] is not None:
            days = row["earliest_days"], row["deadline_days"]
        # In a thread, as in filing.
        due = await asyncio.to_thread(due_after, row["filed_at_ms"], *days)
        if not due.is_provisional:
            values = (due.earliest_at_ms, due.deadline_at_ms, due.earliest_days, due.deadline_days)
            await pool.execute(SQL["settle_deadline"], row["dispute_id"], *values)
            LOG.info("deadline_settled", dispute_id=row["dispute_id"], deadline_at_ms=due.deadline_at_ms)
    return rows[-1]["dispute_id"] if len(rows) == _PAGE_MAX else 0


async def follow_disputes(pool: asyncpg.Pool, store: Store, settings: Settings, stop: asyncio.Event) -> None:
    """Report overdue disputes, settle deadlines and end packets by decision, until ``stop`` is set."""
    after = settled_after = 0

    async def once() -> bool:
        nonlocal after, settled_after
        settled_after = await settle_deadlines(pool, settings, after=settled_after)
        await tell_overdue(pool, settings)
        after = await give_back(pool, store, after=after)
        return False

    await every("disputes", _LOOK_S, stop, once)
