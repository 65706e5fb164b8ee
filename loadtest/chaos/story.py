"""One run: the guests, the faults, the recovery, and the repeats at the end."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import orjson

from engine.embedded import servers
from engine.ledger.failures import DATABASE_ERRORS
from engine.loops import end, stopped_within
from loadtest.chaos import books
from loadtest.chaos.asking import ANSWER_S_MAX, Client
from loadtest.chaos.books import Books
from loadtest.chaos.breaker import Breaker, NotBackError
from loadtest.chaos.findings import REFUSED
from loadtest.chaos.guests import Guests
from loadtest.chaos.history import Claim, History, Recorded
from loadtest.chaos.schedule import Fault
from loadtest.chaos.watch import Watch
from loadtest.steps import Steps
from loadtest.told import HELD

BACK_S_MAX = 60.0
"""How long the engine may take to recover after the last fault."""
SETTLED_S_MAX = 60.0
_FEAST_S = 1.0
"""How long the guests run before the first fault, and after the last."""
_READY_IN_A_ROW = 8
"""Any worker may answer. After this many good answers in a row, all workers have answered."""
_AGAIN_BATCH = 500
_AGAIN_TRIES_MAX = 20
_POLL_S = 0.1
_AUDIT_S_MAX = 120


@dataclass(slots=True)
class Ending:
    """How it ended. ``problems``: what did not recover or settle. ``recoveries_s``: times after lost data."""

    problems: list[str] = field(default_factory=list)
    books: Books | None = None
    audit: list[dict[str, object]] = field(default_factory=list)
    behind_max: int = 0
    back_s: float = 0.0
    recoveries_s: list[float] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Stage:
    """Everything a run needs, on a running engine."""

    client: Client
    guests: Guests
    breaker: Breaker
    watch: Watch
    history: History
    steps: Steps
    environment: Mapping[str, str]
    is_cluster: bool = False
    ending: Ending = field(default_factory=Ending)

    async def play(self, faults: Sequence[Fault]) -> Ending:
        """Play everything. The books are read even if not everything recovered."""
        try:
            async with _running(self.watch.run()), self._feasting():
                await self._wait_prober()
                await asyncio.sleep(_FEAST_S)
                with self.steps.step("faults", len(faults)) as step:
                    back = self._wait_ready if self.is_cluster else self.back
                    await self.breaker.play(faults, lambda _: step.advance(), back)
                    await self.breaker.heal()
                await self._come_back()
                await asyncio.sleep(_FEAST_S)
            await self._ask_again()
            await self._settle()
        except NotBackError as error:
            self.ending.problems.append(str(error))
        finally:
            self.breaker.undo()
        await self._read_books()
        self.ending.behind_max = self.watch.behind_max
        return self.ending

    async def _wait_prober(self) -> None:
        """A lane in which nobody claims yet would seem to pause."""
        if self.guests.prober is not None and not await stopped_within(self.guests.prober.everywhere, BACK_S_MAX):
            raise NotBackError(f"After {BACK_S_MAX:.0f} s without a fault: not every lane has a packet.")

    async def _read_books(self) -> None:
        try:
            self.ending.books = await books.read(self._database_url)
        except DATABASE_ERRORS as error:
            self.ending.problems.append(f"the books could not be read: {error}")
        else:
            self._audit()

    async def back(self) -> None:
        """Wait until every lane serves again after it has lost its data."""
        started_s = time.monotonic()
        await self._wait_ready()
        self.ending.recoveries_s.append(time.monotonic() - started_s)

    @property
    def _database_url(self) -> str:
        return servers.urls(self.watch.data_dir).database_url

    @asynccontextmanager
    async def _feasting(self) -> AsyncIterator[None]:
        """Run guests during the block. Each may wait for its last answer."""
        feast = asyncio.create_task(self.guests.run())
        ended = asyncio.create_task(self.guests.first_sent.wait())
        try:
            await asyncio.wait((feast, ended), return_when=asyncio.FIRST_COMPLETED, timeout=BACK_S_MAX)
            yield
            self.guests.stopping.set()
            self.guests.first_sent.set()
            await asyncio.wait((feast,), timeout=4 * ANSWER_S_MAX)
            if feast.done():
                feast.result()
            else:
                self.ending.problems.append("guests were still waiting for an answer when it was long over")
        finally:
            ended.cancel()
            await end(feast)  # more than once if necessary: a library may mistake a cancellation for its own timeout

    async def _come_back(self) -> None:
        started_s = time.monotonic()
        with self.steps.step("processes back", 1) as step:
            await self._wait_ready()
            step.advance()
        self.ending.back_s = time.monotonic() - started_s

    async def _wait_ready(self) -> None:
        """Wait until every process is ready. Raises NotBackError naming those that are not."""
        deadline_s = time.monotonic() + BACK_S_MAX
        ready, away = 0, list[str]()
        while time.monotonic() < deadline_s:
            away = await asyncio.to_thread(self.breaker.family.away)
            ready = ready + 1 if not away and await self.client.is_ready() else 0
            if ready == _READY_IN_A_ROW:
                return
            await asyncio.sleep(0 if ready else _POLL_S)
        what = f"not back: {', '.join(away)}" if away else "/readyz does not say ready"
        raise NotBackError(f"After {BACK_S_MAX:.0f} s without a fault: {what}.")

    async def _ask_again(self) -> None:
        """Repeat every claim that was answered with an amount."""
        self.history.flush()
        told = sorted(
            {
                (record.packet_id, record.user_id)
                for record in Recorded(self.history.path)
                if isinstance(record, Claim) and record.outcome in HELD
            }
        )
        with self.steps.step("everyone asks again", len(told)) as step:
            for first in range(0, len(told), _AGAIN_BATCH):
                asking = told[first : first + _AGAIN_BATCH]
                for _ in range(_AGAIN_TRIES_MAX):
                    answered = await self.client.claim_many(asking)
                    asking = [(claim.packet_id, claim.user_id) for claim in answered if claim.status in REFUSED]
                    if not asking:
                        break
                    await asyncio.sleep(_POLL_S)
                else:
                    self.ending.problems.append(f"{len(asking)} repeats were not answered")
                step.show(min(first + _AGAIN_BATCH, len(told)), len(told))

    async def _settle(self) -> None:
        """Wait until the ledger has everything and every packet whose time is over has ended."""
        deadline_s, before_ms = time.monotonic() + SETTLED_S_MAX, int(time.time() * 1000)
        waiting: int | None = None
        with self.steps.step("settling packets that have ended", 1) as step:
            while time.monotonic() < deadline_s:
                await self.watch.look()
                with contextlib.suppress(*DATABASE_ERRORS, asyncpg.PostgresError):
                    waiting = await books.unsettled(self._database_url, before_ms)
                if self.watch.behind == 0 and waiting == 0:
                    step.advance()
                    return
                await asyncio.sleep(_POLL_S)
        self.ending.problems.append(
            f"after {SETTLED_S_MAX:.0f} s {waiting} packets were not settled and the ledger was "
            f"{self.watch.behind} changes behind"
        )

    def _audit(self) -> None:
        """The findings of `hongbao audit`. If it cannot run, this is a problem."""
        words = [sys.executable, "-m", "engine", "audit", "--json", "--data-dir", str(self.watch.data_dir)]
        audited = subprocess.run(
            words, env=self.environment, capture_output=True, encoding="utf-8", timeout=_AUDIT_S_MAX, check=False
        )
        try:
            self.ending.audit = orjson.loads(audited.stdout)
        except orjson.JSONDecodeError:
            self.ending.problems.append(f"the audit did not run: {audited.stderr.strip()}")


@asynccontextmanager
async def _running(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run ``work`` beside the block."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await end(task)
        await asyncio.gather(task, return_exceptions=True)
