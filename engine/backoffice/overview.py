"""The first page of the console: what moved today, and what waits for somebody."""

import asyncio
from dataclasses import dataclass
from datetime import date, timedelta

import asyncpg

from engine.auditing import day_movements
from engine.auditing.day_movements import DayMovements
from engine.auditing.runs import AuditLine, DayLine, Runs
from engine.backoffice.lanes_now import LaneNow, lanes_now
from engine.calendar.china_time import day_of
from engine.disputes.lists import DisputeCounts, DisputeLists
from engine.lanes.reader import LaneReader
from engine.lanes.stream import EventStream
from engine.ledger.database import ledger_errors
from engine.ledger.money import now_ms
from engine.packets.lists import PacketLists
from engine.packets.refunds import DueLane, RefundCounts, Refunds
from engine.persisting.quarantine_lists import QuarantineLists, QuarantineTotals
from engine.risk.alert_desk import AlertDesk
from engine.risk.freeze_lists import FreezeLists
from engine.wallets.withdrawal_lists import ProcessingCount, WithdrawalLists

COUNTED_MAX = 10_001
"""Counts of what waits stop here: 10,001 means more than 10,000."""
_SINCE_DAYS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits for somebody, each counted up to ``COUNTED_MAX``."""

    quarantine: QuarantineTotals
    disputes: DisputeCounts
    alerts: int
    withdrawals: ProcessingCount
    refunds: RefundCounts
    freezes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """``movements``: of China's today. ``due``: what Redis should have closed. ``audit``, ``reconciliation``: the last.

    ``at_ms``: when it was read.
    """

    at_ms: int
    today: date
    movements: DayMovements
    open_packets: int
    lanes: list[LaneNow]
    due: list[DueLane]
    audit: AuditLine | None
    reconciliation: DayLine | None
    waiting: Waiting


async def waiting(pool: asyncpg.Pool, store: LaneReader) -> Waiting:
    """What waits, by the ledger. For the badges of every page. Raises UnavailableError."""
    return Waiting(
        quarantine=await QuarantineLists(pool).totals(COUNTED_MAX),
        disputes=await DisputeLists(pool).counts(COUNTED_MAX),
        alerts=await AlertDesk(pool).waiting(COUNTED_MAX),
        withdrawals=await WithdrawalLists(pool).processing(COUNTED_MAX),
        refunds=await Refunds(pool, store).counts(),
        freezes=await FreezeLists(pool).count(COUNTED_MAX),
    )


async def overview(pool: asyncpg.Pool, store: LaneReader, stream: EventStream) -> Overview:
    """Read it all. Raises UnavailableError if Postgres does not answer; lanes that do not answer say so."""
    with ledger_errors():
        at_ms = await now_ms(pool)
    today, runs = day_of(at_ms), Runs(pool)
    lanes = await lanes_now(pool, store, stream)
    due, movements = await asyncio.gather(
        Refunds(pool, store).due([line.lane for line in lanes]), day_movements.of_day(pool, today)
    )
    audits = await runs.audits(after=None, limit=1)
    since = today - timedelta(days=_SINCE_DAYS)
    days = await runs.days(before=today + timedelta(days=1), since=since, limit=1)
    return Overview(
        at_ms=at_ms,
        today=today,
        movements=movements,
        open_packets=await PacketLists(pool).open_count(COUNTED_MAX),
        lanes=lanes,
        due=due,
        audit=audits.rows[0] if audits.rows else None,
        reconciliation=days[0] if days else None,
        waiting=await waiting(pool, store),
    )
