"""Audits that go on from the anchor of the one before."""

from dataclasses import dataclass

import asyncpg

from engine.access.keyring import Keyring, Secret
from engine.auditing import audit as auditing
from engine.auditing import kept
from engine.auditing.audit import Audited, Finding, Plan, audit_on
from engine.auditing.snapshots import Snapshot
from engine.engine import Engine

KEYRING = Keyring([Secret("k1", b"a secret of the tests, which is long enough")])

FUTURE_MS = 7_000_000_000_000
"""An anchor of then: no packet was settled since, so that only those are looked at which entries are about."""


async def audited(engine: Engine, keyring: Keyring | None = KEYRING, plan: Plan | None = None) -> Audited:
    """An audit as the command does it."""
    return await audit_on(engine.pool, engine.store, engine.stream, keyring, plan or Plan())


async def clean(engine: Engine, plan: Plan | None = None) -> Audited:
    """The same, of sound books. It keeps an anchor."""
    done = await audited(engine, plan=plan)
    assert broken(done.findings) == {}
    assert done.not_kept is None
    return done


def broken(findings: list[Finding]) -> dict[str, tuple[str, ...]]:
    """What does not hold, and why."""
    return {finding.invariant: finding.problems for finding in findings if not finding.holds}


def problems(findings: list[Finding]) -> list[str]:
    """All problems in one list."""
    return [problem for finding in findings for problem in finding.problems]


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """The findings about a ledger by itself."""

    findings: list[Finding]
    is_on: bool

    @property
    def problems(self) -> list[str]:
        """All problems in one list."""
        return problems(self.findings)


async def look(pool: asyncpg.Pool, plan: Plan | None = None, *, keeps: bool = False) -> Looked:
    """Audit a ledger without a Redis. ``keeps``: an anchor is kept, whatever is wrong."""
    plan = plan or Plan()
    cut_id = await kept.cut_id(pool)
    assert cut_id is not None
    async with Snapshot.open(pool, plan.jobs) as snapshot:
        start = await auditing._start(snapshot.connection, KEYRING, plan)
        findings = await auditing._Work(plan).ledger(snapshot, start)
        draft = await auditing._draft(snapshot.connection, start, cut_id, at_ms=FUTURE_MS)
    if keeps:
        assert await kept.keep(pool, KEYRING, draft)
    return Looked(findings=findings, is_on=start.is_on)
