"""Group commit for claims: while a script call is under way, the claims that arrive wait and go together in the next.

No timer and no added delay: an idle lane's claim leaves in the same turn of the event loop. The queue is bounded; past
it a claim is refused before it reaches Redis.
"""

import asyncio
import time
from collections import Counter, deque
from typing import NamedTuple

from engine import metrics
from engine.errors import OverloadedError, UnavailableError
from engine.records import ClaimResult
from engine.settings import Settings
from engine.store import Store


class _Waiting(NamedTuple):
    packet_id: str
    user_id: str
    answer: asyncio.Future[ClaimResult]


class Batcher:
    """One lane's, in one process."""

    def __init__(self, store: Store, lane: int, settings: Settings) -> None:
        self._store, self._lane = store, lane
        self._queue: deque[_Waiting] = deque()
        self._queue_max = settings.claim_queue_max
        self._per_call_max = settings.claims_per_call_max
        self._calls_max = settings.calls_in_flight_max
        self._backlog_max = settings.backlog_max
        self._calls: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self._closed = False

    def claim(self, packet_id: str, user_id: str) -> asyncio.Future[ClaimResult]:
        """Queue one claim; the future gives its answer, or what ``Store.claim`` raises.

        Raises OverloadedError when the queue is full. Cancelling the future does not take the claim back.
        """
        if self._closed:
            raise UnavailableError("This process is shutting down.")
        if len(self._queue) >= self._queue_max:
            raise OverloadedError("Too many claims are waiting.")
        answer: asyncio.Future[ClaimResult] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(packet_id, user_id, answer))
        self._schedule()
        return answer

    async def close(self) -> None:
        """Refuse new claims and wait for the answers of all that are queued."""
        self._closed = True
        while self._calls or self._queue:
            self._send()
            await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)

    def _schedule(self) -> None:
        # Once a turn of the loop, after every handler that is ready has queued its claim.
        if not self._scheduled and len(self._calls) < self._calls_max:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._scheduled = False
        while self._queue and len(self._calls) < self._calls_max:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._per_call_max))]
            call = asyncio.create_task(self._call(batch))
            self._calls.add(call)
            call.add_done_callback(self._sent)

    def _sent(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if self._queue:
            self._schedule()

    async def _call(self, batch: list[_Waiting]) -> None:
        asked: dict[str, list[str]] = {}
        answers: dict[str, list[asyncio.Future[ClaimResult]]] = {}
        for packet_id, user_id, answer in batch:
            asked.setdefault(packet_id, []).append(user_id)
            answers.setdefault(packet_id, []).append(answer)
        in_order = [answer for waiting in answers.values() for answer in waiting]
        started_s = time.perf_counter()
        try:
            results = await self._store.claim(self._lane, asked, backlog_max=self._backlog_max)
        except Exception as error:
            for answer in in_order:
                if not answer.done():
                    answer.set_exception(error)
            return
        for answer, result in zip(in_order, results, strict=True):
            # A client that went away has cancelled its future; its claim stands all the same.
            if not answer.done():
                answer.set_result(result)
        metrics.SCRIPT_SECONDS.labels("claim").observe(time.perf_counter() - started_s)
        metrics.CLAIM_BATCH_SIZE.observe(len(batch))
        for outcome, count in Counter(result.outcome for result in results).items():
            metrics.CLAIMS.labels(outcome.name.lower()).inc(count)
