"""What waits for a person, a bank or the sweeper, and how the last checks ended: as gauges.

It is measured outside the sweeper, which may be dead.
"""

import time

import asyncpg

from engine.ledger.database import ledger_errors
from engine.observability import metrics
from engine.queries import load

SQL = load("waiting")
COUNT_MAX = 100_000
"""Nothing is counted beyond this: a gauge at it means "so many or more"."""


async def measure(pool: asyncpg.Pool) -> None:
    """Set the gauges. Raises UnavailableError."""
    now_ms = int(time.time() * 1000)
    with ledger_errors():
        (row,) = await pool.fetch(SQL["counts"], now_ms, COUNT_MAX)
        (runs,) = await pool.fetch(SQL["last_runs"])
    metrics.DISPUTES_OPEN.set(row["disputes_open"])
    metrics.DISPUTES_OVERDUE.set(row["disputes_overdue"])
    metrics.REFUNDS_WAITING.set(row["refunds"])
    metrics.REFUNDS_WAITING_SECONDS.set(_age_s(row["refunds_since_ms"], now_ms))
    metrics.WITHDRAWALS_PROCESSING.set(row["withdrawals"])
    metrics.WITHDRAWALS_PROCESSING_SECONDS.set(_age_s(row["withdrawals_since_ms"], now_ms))
    metrics.APPROVALS_WAITING.set(row["approvals"])
    metrics.AUDIT_RUN_PROBLEMS.set(runs["problem_count"] or 0)
    metrics.AUDIT_RUN_ENDED.set((runs["audit_ended_at_ms"] or 0) / 1000)
    metrics.RECONCILIATION_RUN_DIFFERENCES.set(runs["difference_count"] or 0)
    metrics.RECONCILIATION_RUN_ENDED.set((runs["reconciled_at_ms"] or 0) / 1000)


def _age_s(since_ms: int | None, now_ms: int) -> float:
    return 0.0 if since_ms is None else max(0, now_ms - since_ms) / 1000
