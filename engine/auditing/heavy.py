"""Reconciliations and audits that are run and kept: by the sweeper each day, and by operators from the console.

Both read so much that one at a time runs, over all processes.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date, timedelta

import structlog

from engine.access import keyring
from engine.auditing.audit import Audited, Plan, audit_on
from engine.auditing.comparison import Day
from engine.auditing.reconciliation import reconcile
from engine.auditing.runs import DAILY, HeavyJobError, Runs, heavy_job
from engine.calendar.china_time import begin_ms, today
from engine.connected import Connected, urls_of
from engine.errors import DayNotClosedError, OperatorError
from engine.ledger.money import now_ms
from engine.loops import PASSING, end, every
from engine.settings import Settings
from engine.wallets.closing import Closing
from engine.wallets.payouts import provider_of

LOG = structlog.get_logger()
JOB_S_MAX = 3_600.0
"""No statement of such a job takes longer."""
INTERVAL_S = 60.0
Told = Callable[[str, int, int], None]


async def run_reconciliation(settings: Settings, day: date, *, by: str, provisional: bool = False) -> int:
    """Compare a day and keep the run. Returns its number.

    Raises DayNotClosedError unless ``provisional``, HeavyJobError, UnavailableError, OperatorError.
    """
    async with heavy_job(urls_of(settings).database), Connected.open(_patient(settings)) as connected:
        started_at_ms, is_open = await now_ms(connected.pool), False
        try:
            await Closing(connected.pool, connected.store, connected.stream).check(day)
        except DayNotClosedError:
            if not provisional:
                raise
            is_open = True
        provider = provider_of(connected.pool, settings)
        found = await reconcile(connected.pool, connected.store, connected.stream, provider, Day.of(day))
        return await Runs(connected.pool).keep_reconciliation(
            day, found, started_at_ms=started_at_ms, by=by, is_provisional=is_open
        )


async def run_audit(
    settings: Settings, *, by: str, is_full: bool = False, told: Told = lambda _name, _done, _total: None
) -> int:
    """Examine every invariant, keep the run and, if all is well, the next anchor. Returns the run's number.

    Raises HeavyJobError, UnavailableError, OperatorError.
    """
    async with heavy_job(urls_of(settings).database), Connected.open(_patient(settings)) as connected:
        started_at_ms = await now_ms(connected.pool)
        plan = Plan(is_full=is_full, retention_ms=settings.settled_retention_s * 1_000, told=told)
        audited: Audited = await audit_on(connected.pool, connected.store, connected.stream, _keyring(settings), plan)
        return await Runs(connected.pool).keep_audit(audited, started_at_ms=started_at_ms, by=by)


def _patient(settings: Settings) -> Settings:
    connections = max(settings.database_pool_max, 4)
    return settings.model_copy(update={"database_timeout_s": JOB_S_MAX, "database_pool_max": connections})


def _keyring(settings: Settings) -> keyring.Keyring | None:
    """The secrets that sign anchors, if there are any. It makes none."""
    try:
        return keyring.load(settings) if keyring.is_given(settings) else None
    except (OperatorError, OSError):
        return None


@dataclass(slots=True, kw_only=True)
class Job:
    """A job of this process. ``ended_at_ms`` None: it is under way. ``error``: a sentence. ``run_id``: what it kept."""

    what: str
    by: str
    started_at_ms: int
    done: int = 0
    total: int = 0
    piece: str = ""
    ended_at_ms: int | None = None
    error: str | None = None
    run_id: int | None = None


def _clock_ms() -> int:
    return int(time.time() * 1_000)


class HeavyJobs:
    """The jobs that operators begin in this process, one after another. Call ``close`` at the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._task: asyncio.Task[None] | None = None
        self.last: Job | None = None

    def reconcile(self, day: date, *, by: str, provisional: bool) -> Job:
        """Begin to compare a day. Raises HeavyJobError."""
        return self._begin(
            f"reconciliation {day}",
            by,
            lambda _: run_reconciliation(self._settings, day, by=by, provisional=provisional),
        )

    def audit(self, *, by: str, is_full: bool) -> Job:
        """Begin an audit. Raises HeavyJobError."""
        return self._begin("audit", by, lambda told: run_audit(self._settings, by=by, is_full=is_full, told=told))

    def _begin(self, what: str, by: str, work: Callable[[Told], Awaitable[int]]) -> Job:
        if self._task is not None and not self._task.done():
            raise HeavyJobError("Another audit or reconciliation is under way: try again when it has ended.")
        job = Job(what=what, by=by, started_at_ms=_clock_ms())
        self.last, self._task = job, asyncio.create_task(self._run(job, work))
        return job

    async def _run(self, job: Job, work: Callable[[Told], Awaitable[int]]) -> None:
        def told(piece: str, done: int, total: int) -> None:
            job.piece, job.done, job.total = piece, done, total

        try:
            job.run_id = await work(told)
        except PASSING as error:
            job.error = str(error)
            LOG.warning("heavy_job_failed", what=job.what, error=str(error))
        finally:
            job.ended_at_ms = _clock_ms()

    async def wait(self) -> None:
        """Wait until the job that is under way has ended, if there is one."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """Break off what is under way. Nothing is kept of it."""
        if self._task is not None:
            await end(self._task)


async def reconcile_yesterday(settings: Settings, runs: Runs, first_ms: int | None) -> bool:
    """Reconcile China's yesterday, unless it was, or there was no ledger then. Returns whether this call did it."""
    day = today() - timedelta(days=1)
    if first_ms is None or first_ms >= begin_ms(today()) or await runs.has_final(day):
        return False
    try:
        await run_reconciliation(settings, day, by=DAILY)
    except (DayNotClosedError, HeavyJobError):  # later
        return False
    return True


async def follow_reconciliation(settings: Settings, runs: Runs, stop: asyncio.Event) -> None:
    """Reconcile each day once it is closed, until ``stop`` is set, if the settings say so."""
    if not settings.reconcile_daily:
        return

    async def once() -> bool:
        await reconcile_yesterday(settings, runs, await runs.first_ms())
        return False

    await every("reconciliation", INTERVAL_S, stop, once)
