"""Runs of reconciliation and of audits as they came out: kept, listed, explained.

A reconciliation is kept with its comparisons, and each difference with its packet, user or withdrawal. Nothing here is
ever changed: a later run of a day has the next number, and a reason is added to the run that it explains.
"""

import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

import asyncpg
import orjson

from engine.auditing.audit import Audited
from engine.auditing.comparison import Comparison, Side, Subject
from engine.auditing.findings import Finding
from engine.errors import FieldProblem, HongbaoError, InvalidFieldsError
from engine.ledger.database import database_connection, ledger_change, ledger_errors
from engine.paging import NEWEST, Page, page_of, parse
from engine.queries import load

SQL = load("runs")
RUNS_MAX = 50
COMMAND_LINE = "command line"
"""Who ran what was run by `hongbao audit` and `hongbao reconcile`."""
DAILY = "daily"
"""Who ran what the sweeper runs by itself."""


class HeavyJobError(HongbaoError):
    """Another audit or reconciliation is under way. Both read so much that they run one at a time."""

    code = "heavy_job"


class UnknownRunError(HongbaoError):
    """No run has this number."""

    code = "unknown_run"


@dataclass(frozen=True, slots=True, kw_only=True)
class DayLine:
    """A day's last run. ``differing``: how many comparisons differ. ``explained``: of how many somebody said why."""

    reconciliation_id: int
    day: date
    run: int
    started_at_ms: int
    ended_at_ms: int
    run_by: str
    is_provisional: bool
    difference_count: int
    differing: int
    explained: int

    @property
    def agrees(self) -> bool:
        """Whether nothing differs."""
        return self.differing == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why the differences of a comparison are none to worry about."""

    comparison: str
    reason: str
    explained_by: str
    explained_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationRun:
    """One run of a day, whole."""

    reconciliation_id: int
    day: date
    run: int
    started_at_ms: int
    ended_at_ms: int
    run_by: str
    is_provisional: bool
    difference_count: int
    comparisons: list[Comparison]

    @property
    def agrees(self) -> bool:
        """Whether nothing differs."""
        return all(comparison.agrees for comparison in self.comparisons)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """One audit. ``is_full``: all history was examined. ``not_kept``: why no anchor was kept although it was clean."""

    audit_run_id: int
    started_at_ms: int
    ended_at_ms: int
    run_by: str
    is_full: bool
    scope: str
    not_kept: str | None
    problem_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRun(AuditLine):
    """One audit, whole. ``heads`` of the findings are the anchor to keep elsewhere."""

    findings: list[Finding]


class Runs:
    """Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def keep_reconciliation(
        self,
        day: date,
        comparisons: Sequence[Comparison],
        *,
        started_at_ms: int,
        by: str,
        is_provisional: bool,
    ) -> int:
        """Keep a run of a day. Returns its number."""
        count = sum(len(comparison.differences) + comparison.more for comparison in comparisons)
        told = orjson.dumps([_compared(comparison) for comparison in comparisons]).decode()
        async with ledger_change(self._pool) as connection:
            await connection.execute(SQL["take_turns"])
            number: int = await connection.fetchval(
                SQL["keep_reconciliation"], day, started_at_ms, by, is_provisional, count, told
            )
        return number

    async def days(self, *, before: date, since: date, limit: int) -> list[DayLine]:
        """Each day's last run, newest first."""
        with ledger_errors():
            rows = await self._pool.fetch(SQL["days"], before, since, limit)
        return [DayLine(**row) for row in rows]

    async def of_day(self, day: date, *, after: str | None, limit: int) -> Page[ReconciliationRun]:
        """A day's runs, the last first. Raises InvalidFieldsError for an invalid cursor."""
        (below,) = parse(after, parts=1, start=(2**31 - 1,))
        with ledger_errors():
            rows = await self._pool.fetch(SQL["of_day"], day, min(below, 2**31 - 1), limit + 1)
        return page_of([_run(row) for row in rows], limit, lambda run: str(run.run))

    async def has_final(self, day: date) -> bool:
        """Whether a closed day was reconciled."""
        with ledger_errors():
            found: bool = await self._pool.fetchval(SQL["has_final"], day)
        return found

    async def reasons(self, reconciliation_id: int) -> list[Reason]:
        """What was said about a run's differences, in the order in which it was said."""
        with ledger_errors():
            rows = await self._pool.fetch(SQL["reasons"], reconciliation_id)
        return [Reason(**row) for row in rows]

    async def explain(self, reconciliation_id: int, comparison: str, *, reason: str, by: str) -> None:
        """Say why a comparison's differences are none to worry about. Raises UnknownRunError, InvalidFieldsError."""
        async with ledger_change(self._pool) as connection:
            row = await connection.fetchrow(SQL["reconciliation"], reconciliation_id)
            if row is None:
                raise UnknownRunError("No reconciliation has this number.")
            differing = {one.name for one in _run(row).comparisons if not one.agrees}
            if comparison not in differing:
                raise InvalidFieldsError([FieldProblem("comparison", "must be a comparison of this run that differs")])
            await connection.execute(SQL["explain"], reconciliation_id, comparison, reason, by)

    async def keep_audit(self, audited: Audited, *, started_at_ms: int, by: str) -> int:
        """Keep what an audit found. Returns its number."""
        count = sum(len(finding.problems) + finding.more for finding in audited.findings)
        told = orjson.dumps([_found(finding) for finding in audited.findings]).decode()
        async with ledger_change(self._pool) as connection:
            number: int = await connection.fetchval(
                SQL["keep_audit"],
                *(started_at_ms, by, not audited.is_on, audited.scope, audited.not_kept, count, told),
            )
        return number

    async def audits(self, *, after: str | None, limit: int) -> Page[AuditLine]:
        """Audits, newest first. Raises InvalidFieldsError for an invalid cursor."""
        (below,) = parse(after, parts=1, start=(NEWEST,))
        with ledger_errors():
            rows = await self._pool.fetch(SQL["audit_runs"], below, limit + 1)
        return page_of([AuditLine(**row) for row in rows], limit, lambda run: str(run.audit_run_id))

    async def audit(self, audit_run_id: int) -> AuditRun:
        """One audit, whole. Raises UnknownRunError."""
        with ledger_errors():
            row = await self._pool.fetchrow(SQL["audit_run"], audit_run_id)
        if row is None:
            raise UnknownRunError("No audit has this number.")
        findings = [
            Finding(
                invariant=found["invariant"],
                statement=found["statement"],
                examined=found["examined"],
                problems=tuple(found["problems"]),
                more=found["more"],
            )
            for found in orjson.loads(row["findings"])
        ]
        return AuditRun(**{**row, "findings": findings})

    async def anchor(self, audit_run_id: int) -> list[dict[str, Any]]:
        """An audit's findings as `hongbao audit --json` prints them, which `--anchor` reads. Raises UnknownRunError."""
        with ledger_errors():
            row = await self._pool.fetchrow(SQL["audit_run"], audit_run_id)
        if row is None:
            raise UnknownRunError("No audit has this number.")
        found: list[dict[str, Any]] = orjson.loads(row["findings"])
        return found

    async def first_ms(self) -> int | None:
        """When the ledger began."""
        with ledger_errors():
            first: int | None = await self._pool.fetchval(SQL["first_ms"])
        return first

    async def may_keep(self) -> bool:
        """Whether this user of Postgres may keep a run."""
        with ledger_errors():
            may: bool = await self._pool.fetchval(SQL["may_keep"])
        return may


@asynccontextmanager
async def heavy_job(database_url: str) -> AsyncIterator[None]:
    """Be the only heavy job of all processes. Raises HeavyJobError if another is under way, OperatorError."""
    connection = await database_connection(database_url)
    try:
        with ledger_errors():
            is_alone = await connection.fetchval(SQL["heavy"])
        if not is_alone:
            raise HeavyJobError("Another audit or reconciliation is under way: try again when it has ended.")
        yield
    finally:
        await connection.close(timeout=5)


def _compared(comparison: Comparison) -> dict[str, Any]:
    record = {**dataclasses.asdict(comparison), "agrees": comparison.agrees}
    for side in ("left", "right"):  # a sum may be larger than any number in JSON that is kept exactly
        fen = record[side]["fen"]
        record[side]["fen"] = None if fen is None else str(fen)
    return record


def _side(record: dict[str, Any]) -> Side:
    fen = record["fen"]
    return Side(what=record["what"], count=record["count"], fen=None if fen is None else int(fen))


def _run(row: asyncpg.Record) -> ReconciliationRun:
    comparisons = [
        Comparison(
            name=one["name"],
            left=_side(one["left"]),
            right=_side(one["right"]),
            differences=tuple(one["differences"]),
            more=one["more"],
            subjects=tuple(Subject(**subject) for subject in one["subjects"]),
        )
        for one in orjson.loads(row["comparisons"])
    ]
    return ReconciliationRun(**{**row, "comparisons": comparisons})


def _found(finding: Finding) -> dict[str, Any]:
    record = {**dataclasses.asdict(finding), "holds": finding.holds}
    if not finding.heads:
        del record["heads"]
    return record
