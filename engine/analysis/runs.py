"""Studies that operators begin in a process: one at a time, and the last few are kept in its memory."""

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

import structlog

from engine.analysis import report
from engine.analysis.finding import Finding, Language
from engine.analysis.scope import STATEMENT_S, check_days
from engine.analysis.studies import STUDIES, Study, study
from engine.connected import urls_of
from engine.errors import HongbaoError, OperatorError
from engine.ledger.database import database_pool
from engine.loops import end
from engine.settings import Settings

KEPT_MAX = 4
"""How many are kept. The one that was begun first is forgotten first."""
_ID_BYTES = 8
_LOG = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Run:
    """A study of some days. ``ended_at_ms`` None: it is under way. ``error``: why it has no ``study``, as a sentence.

    ``undrawn``: why there are no pictures, as a sentence. ``pictures``: those that were drawn. ``failed``: those that
    could not be.
    """

    run_id: str
    first: date
    last: date
    asset: str | None
    by: str
    started_at_ms: int
    done: int = 0
    total: int = len(STUDIES)
    ended_at_ms: int | None = None
    error: str | None = None
    undrawn: str | None = None
    study: Study | None = None
    pictures: dict[tuple[str, Language], bytes] = field(default_factory=dict)
    failed: set[tuple[str, Language]] = field(default_factory=set)

    def finding(self, name: str) -> Finding | None:
        """The finding of this name, if there is one."""
        findings = () if self.study is None else self.study.findings
        return next((finding for finding in findings if finding.name == name), None)


class Runs:
    """One process's studies. Call ``close`` at the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._kept: OrderedDict[str, Run] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self._drawing = asyncio.Lock()

    @property
    def kept(self) -> list[Run]:
        """The last ones, newest first."""
        return list(reversed(self._kept.values()))

    def get(self, run_id: str) -> Run | None:
        """The run of this id, if it is kept."""
        return self._kept.get(run_id)

    def begin(self, first: date, last: date, *, asset: str | None, language: Language, by: str) -> tuple[Run, bool]:
        """Begin a study. Returns it and True, or the one that is under way and False.

        ``language``: that in which it is drawn at once. Raises InvalidFieldsError for days that cannot be looked at.
        """
        if self._task is not None and not self._task.done():
            return self.kept[0], False
        check_days(first, last)
        run = Run(
            run_id=secrets.token_hex(_ID_BYTES),
            first=first,
            last=last,
            asset=asset,
            by=by,
            started_at_ms=_clock_ms(),
        )
        self._kept[run.run_id] = run
        while len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        self._task = asyncio.create_task(self._run(run, language))
        return run, True

    async def picture(self, run: Run, name: str, language: Language) -> bytes | None:
        """A finding's picture, drawn now if it was not before. None: there is none. Raises OperatorError.

        What else fails is logged and not tried again. The other pictures do not suffer from it.
        """
        finding, key = run.finding(name), (name, language)
        if finding is None or finding.is_empty:
            return None
        async with self._drawing:  # matplotlib's settings are the process's
            if key not in run.pictures and key not in run.failed:
                try:
                    run.pictures[key] = await asyncio.to_thread(_draw, finding, language)
                except OperatorError:
                    raise
                except Exception:
                    run.failed.add(key)
                    _LOG.exception("a picture could not be drawn", name=name, first=str(run.first), last=str(run.last))
        return run.pictures.get(key)

    async def wait(self) -> None:
        """Wait until the study that is under way has ended, if there is one."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """Break off what is under way."""
        if self._task is not None:
            await end(self._task)

    async def _run(self, run: Run, language: Language) -> None:
        def told(done: int, of: int) -> None:
            run.done, run.total = done, 2 * of

        try:
            found = await self._ask(run, told)
            run.study = found
            await self._draw_all(run, language)
        except HongbaoError as error:
            run.error = str(error)
        except Exception:
            run.error = "It failed: see the console's log."
            _LOG.exception("a study failed", first=str(run.first), last=str(run.last))
        finally:
            run.ended_at_ms = _clock_ms()

    async def _ask(self, run: Run, told: Callable[[int, int], None]) -> Study:
        """On a connection of its own, so that no operator's look waits for it."""
        pool = await database_pool(urls_of(self._settings).database, connections_max=1, timeout_s=2 * STATEMENT_S)
        try:
            return await study(pool, run.first, run.last, asset=run.asset, told=told)
        finally:
            await pool.close()

    async def _draw_all(self, run: Run, language: Language) -> None:
        try:
            await asyncio.to_thread(report.check_can_draw, language)
        except OperatorError as error:
            run.undrawn = str(error)
            return
        for name in STUDIES:
            await self.picture(run, name, language)
            run.done += 1


def _draw(finding: Finding, language: Language) -> bytes:
    report.check_can_draw(language)
    png = report.draw(finding, language).png
    if png is None:
        raise AssertionError("a finding with something in it is drawn")
    return png


def _clock_ms() -> int:
    return int(time.time() * 1_000)
