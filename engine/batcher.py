"""Group commit for claims: while a script call is under way, the claims that arrive wait and go together in the next.

An idle lane's claim leaves in the same turn of the event loop; a busy lane is asked once a millisecond, or sooner for
many. What waits is bounded; past it a claim is refused before it reaches Redis.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import structlog

from engine import metrics
from engine.errors import OverloadedError, UnavailableError
from engine.records import ClaimResult
from engine.settings import Settings
from engine.store import Store

Deliver = Callable[[ClaimResult | Exception], None]
"""Takes one claim's answer, or what ``Store.claim`` raised."""

PACE_S = 0.001
PACE_BELOW = 32
"""Fewer claims than this wait until so long after the call before, so that at half load calls are few and full: a call
costs as much as thirty claims. A claim that comes alone does not wait."""

_log = structlog.get_logger(__name__)


class _Singles:
    """Claims that came one by one and will leave together; each has its own answer."""

    def __init__(self) -> None:
        self.asked: dict[str, list[str]] = {}
        self.size = 0
        self._deliveries: dict[str, list[Deliver]] = {}

    def add(self, packet_id: str, user_id: str, deliver: Deliver) -> None:
        users = self.asked.get(packet_id)
        if users is None:
            self.asked[packet_id], self._deliveries[packet_id] = [user_id], [deliver]
        else:
            users.append(user_id)
            self._deliveries[packet_id].append(deliver)
        self.size += 1

    def resolve(self, results: Sequence[ClaimResult | Exception]) -> None:
        result = iter(results)
        for deliveries in self._deliveries.values():
            for deliver in deliveries:
                try:
                    deliver(next(result))
                except Exception:  # what is wrong with one answer must not keep the others from theirs
                    _log.exception("an answer could not be delivered")

    def fail(self, error: Exception) -> None:
        self.resolve([error] * self.size)


class _Order:
    """Claims that came together and leave together, with one answer for all."""

    def __init__(self, asked: Mapping[str, Sequence[str]], size: int) -> None:
        self.asked, self.size = asked, size
        self.answer: asyncio.Future[list[ClaimResult]] = asyncio.get_running_loop().create_future()

    def resolve(self, results: list[ClaimResult]) -> None:
        if not self.answer.done():
            self.answer.set_result(results)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


def _settle(answer: "asyncio.Future[ClaimResult]", result: ClaimResult | Exception) -> None:
    # A client that went away has cancelled its future; its claim stands all the same.
    if answer.done():
        return
    if isinstance(result, ClaimResult):
        answer.set_result(result)
    else:
        answer.set_exception(result)


class Batcher:
    """One lane's, in one process."""

    def __init__(self, store: Store, lane: int, settings: Settings) -> None:
        self._store, self._lane = store, lane
        self._waiting: deque[_Singles | _Order] = deque()
        self._open = _Singles()  # the last of those that wait, if it still takes claims
        self._size = 0
        self._size_max = settings.claim_queue_max
        self._per_call_max = settings.claims_per_call_max
        self._calls_max = settings.calls_in_flight_max
        self._backlog_max = settings.backlog_max
        self._calls: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._last_call_s = 0.0
        self._closed = False

    def claim(self, packet_id: str, user_id: str) -> "asyncio.Future[ClaimResult]":
        """Queue one claim; the future gives its answer, or what ``Store.claim`` raises.

        Raises OverloadedError when too many wait. Cancelling the future does not take the claim back.
        """
        answer: asyncio.Future[ClaimResult] = asyncio.get_running_loop().create_future()
        self.claim_for(packet_id, user_id, partial(_settle, answer))
        return answer

    def claim_for(self, packet_id: str, user_id: str, deliver: Deliver) -> None:
        """Queue one claim whose answer is handed to ``deliver``, once, without a future in between.

        Raises OverloadedError when too many wait.
        """
        self._admit(1)
        if not self._waiting or self._waiting[-1] is not self._open or self._open.size >= self._per_call_max:
            self._open = _Singles()
            self._waiting.append(self._open)
        self._open.add(packet_id, user_id, deliver)

    def claim_all(self, asked: Mapping[str, Sequence[str]]) -> "asyncio.Future[list[ClaimResult]]":
        """Queue claims (packet -> users, at most 1,000 in all) that go in one call; results in the order of iteration.

        Raises OverloadedError when too many wait.
        """
        size = sum(map(len, asked.values()))
        self._admit(size)
        order = _Order(asked, size)
        self._waiting.append(order)
        return order.answer

    async def close(self) -> None:
        """Refuse new claims and wait for the answers of all that are queued."""
        self._closed = True
        while self._calls or self._waiting:
            self._send()
            await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)

    def _admit(self, size: int) -> None:
        if self._closed:
            raise UnavailableError("This process is shutting down.")
        if self._size + size > self._size_max:
            raise OverloadedError("Too many claims are waiting.")
        self._size += size
        self._schedule()

    def _schedule(self) -> None:
        if self._scheduled or len(self._calls) >= self._calls_max:
            return
        loop = asyncio.get_running_loop()
        wait_s = self._last_call_s + PACE_S - loop.time()
        if self._size >= PACE_BELOW or wait_s <= 0:
            # Once a turn of the loop, after every handler that is ready has queued its claim.
            self._scheduled = True
            loop.call_soon(self._send)
        elif self._timer is None:
            self._timer = loop.call_later(wait_s, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._send()

    def _send(self) -> None:
        self._scheduled = False
        while self._waiting and len(self._calls) < self._calls_max:
            batch = self._waiting.popleft()
            self._size -= batch.size
            self._last_call_s = asyncio.get_running_loop().time()
            call = asyncio.create_task(self._call(batch))
            self._calls.add(call)
            call.add_done_callback(self._sent)

    def _sent(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if self._waiting:
            self._schedule()

    async def _call(self, batch: _Singles | _Order) -> None:
        started_s = time.perf_counter()
        try:
            results = await self._store.claim(self._lane, batch.asked, backlog_max=self._backlog_max)
        except Exception as error:
            batch.fail(error)  # whatever it is, everyone who waits must hear of it
            return
        batch.resolve(results)
        metrics.SCRIPT_SECONDS.labels("claim").observe(time.perf_counter() - started_s)
        metrics.CLAIM_BATCH_SIZE.observe(batch.size)
        for outcome, count in Counter([result.outcome for result in results]).items():
            metrics.CLAIMS.labels(outcome.name.lower()).inc(count)
