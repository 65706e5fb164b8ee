"""Group commit for claims: while a script call is in progress, new claims wait and go together in the next call.

An idle lane's claim leaves in the same turn of the event loop. A busy lane makes one call per millisecond, or more if
many claims wait. Many claims are shared out among the calls that may be in progress. The queue is bounded in number and
in time. A claim that would wait too long is refused before it reaches Redis. So a claim that is admitted is answered
soon, under any load.
"""

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import NoReturn

from engine.claiming.acks import Acks, Decided
from engine.claiming.batches import Answer, Batch, Deliver, Order, Singles, next_batch
from engine.errors import HongbaoError, OverloadedError, UnavailableError
from engine.lanes.store import Store
from engine.observability import metrics
from engine.records import Ack, ClaimResult
from engine.settings import Settings

PACE_S = 0.001
PACE_BELOW = 32
"""Fewer than PACE_BELOW claims wait until PACE_S after the previous call. This keeps calls few and full at half load:
a call costs as much as thirty claims. A claim that comes alone does not wait."""

SHARED_FROM = 64
"""More claims than this are shared out among the calls in progress, so that Redis has one part while this process
answers another. A call for all of them would leave each idle while the other works."""

CLAIM_S_FIRST = 0.00003
"""The assumed cost of a claim until one has been measured."""
_MEASURED_MIN, _WEIGHT, _GROWTH_MAX = 32, 0.2, 4.0
"""Calls with fewer claims are not measured. A call has this weight in the average, and counts as at most this multiple
of it: a short stall does not mean that Redis is slow."""

_SILENT_SHARE = 0.9
"""A call that fails after this share of its timeout got no answer. The next call would wait as long again."""


def _settle(answer: "asyncio.Future[ClaimResult]", result: ClaimResult | Exception) -> None:
    # A client that disconnected has cancelled its future. Its claim still stands.
    if answer.done():
        return
    if isinstance(result, ClaimResult):
        answer.set_result(result)
    else:
        answer.set_exception(result)


class Batcher:
    """One lane's batcher in one process. While it refuses claims, its lane is in ``full_lanes``.

    ``acks``: what answers wait for after the script has decided.
    """

    def __init__(self, store: Store, lane: int, settings: Settings, full_lanes: set[int], acks: Acks) -> None:
        self._store, self._lane, self._acks = store, lane, acks
        self._waiting: deque[Singles | Order] = deque()
        self._open = Singles()  # the last waiting batch, if it still accepts claims
        self._size = 0
        self._size_max = settings.claim_queue_max
        self._wait_s_max = settings.claim_wait_ms_max / 1000
        self._silent_s = settings.redis_timeout_s * _SILENT_SHARE
        self._under_way = 0
        self._claim_s, self._done_s = CLAIM_S_FIRST, -math.inf
        self._full_lanes = full_lanes
        self._per_call_max = settings.claims_per_call_max
        self._ahead_max = self._bound_of_wait()
        self._calls_max = settings.calls_in_flight_max
        self._backlog_max = settings.backlog_max
        self._calls: set[asyncio.Task[None]] = set()
        self._confirming: set[asyncio.Task[None]] = set()
        self.unconfirmed = 0
        """Claims that are decided but not confirmed yet."""
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._last_call_s = -math.inf  # not 0: the clock starts with the machine, so 0 is a real moment
        self._closed = False

    def claim(self, packet_id: str, user_id: str) -> "asyncio.Future[ClaimResult]":
        """Queue one claim. The future resolves to its answer, or raises what ``Store.claim`` raises.

        Raises OverloadedError if too many wait. Cancelling the future does not undo the claim.
        """
        answer: asyncio.Future[ClaimResult] = asyncio.get_running_loop().create_future()
        self.claim_for(packet_id, user_id, partial(_settle, answer))
        return answer

    def claim_for(self, packet_id: str, user_id: str, deliver: Deliver) -> None:
        """Queue one claim. Its answer is passed to ``deliver``, once, without a future in between.

        Raises OverloadedError if too many wait.
        """
        self._admit(1)
        if not self._waiting or self._waiting[-1] is not self._open or self._open.size >= self._per_call_max:
            self._open = Singles()
            self._waiting.append(self._open)
        self._open.add(packet_id, user_id, deliver)

    def claim_all(self, asked: Mapping[str, Sequence[str]]) -> "asyncio.Future[Sequence[Answer]]":
        """Queue claims (packet -> users, at most 1,000 in all) for one call. Answers are in the order of iteration.

        Raises OverloadedError if too many wait.
        """
        size = sum(map(len, asked.values()))
        self._admit(size)
        order = Order(asked, size)
        self._waiting.append(order)
        return order.answer

    async def close(self) -> None:
        """Refuse new claims, and wait until all queued claims are answered."""
        self._closed = True
        while self._calls or self._waiting:
            self._send()
            await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(*self._confirming)

    def _admit(self, size: int) -> None:
        if self._closed:
            raise UnavailableError("This process is shutting down.", is_undone=True)
        # Count what is ahead, not the new claims: a large order is admitted whenever a single claim is.
        if self._size + self._under_way >= self._ahead_max or self._size + self.unconfirmed + size > self._size_max:
            self._refuse()
        self._size += size
        if not self._scheduled:
            self._schedule()

    def _refuse(self) -> NoReturn:
        if self._calls:  # when one ends, the lane is looked at again
            self._full_lanes.add(self._lane)
        raise OverloadedError("Too many claims are waiting.")

    def _bound_of_wait(self) -> int:
        """How many claims may be ahead of a new one, at their present cost; at least as many as one call takes."""
        return max(self._per_call_max, int(self._wait_s_max / self._claim_s))

    def _measure(self, batch: Batch) -> None:
        """Learn the cost of a claim from a call that has returned. The time between two calls counts, too."""
        now_s = time.monotonic()
        if batch.size >= _MEASURED_MIN:
            claim_s = (now_s - max(self._done_s, batch.sent_s)) / batch.size
            self._claim_s += _WEIGHT * (min(claim_s, _GROWTH_MAX * self._claim_s) - self._claim_s)
            self._ahead_max = self._bound_of_wait()
        self._done_s = now_s

    def _schedule(self) -> None:
        if self._scheduled or len(self._calls) >= self._calls_max:
            return
        loop = asyncio.get_running_loop()
        wait_s = self._last_call_s + PACE_S - loop.time()
        if self._size >= PACE_BELOW or wait_s <= 0:
            # Once per turn of the loop, after all ready handlers have queued their claims.
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
            batch = next_batch(self._waiting, self._per_call_max, self._fair_share())
            if self._waiting and self._waiting[0] is self._open:
                # Later claims of the packets that are left must not leave before other packets' earlier ones.
                self._open = Singles()
            self._size -= batch.size
            self._under_way += batch.size
            batch.sent_s = time.monotonic()
            self._last_call_s = asyncio.get_running_loop().time()
            call = asyncio.create_task(self._call(batch))
            self._calls.add(call)
            call.add_done_callback(partial(self._sent, batch))

    def _fair_share(self) -> int:
        """How many single claims one call takes: if two may be in progress, half of all that are not answered."""
        share = -(-(self._size + self._under_way) // self._calls_max)
        return min(self._per_call_max, max(SHARED_FROM, share))

    def _sent(self, batch: Batch, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._measure(batch)
        if self._size + self._under_way < self._ahead_max:
            self._full_lanes.discard(self._lane)
        if self._waiting:
            self._schedule()

    async def _call(self, batch: Batch) -> None:
        started_s = time.perf_counter()
        acks, lent = self._acks, self._store.lend(self._lane)
        try:
            try:
                reply = await self._store.claim(self._lane, batch.asked, backlog_max=self._backlog_max, lent=lent)
            finally:
                # Before any answer is delivered: a client's next claim must not find its last one ahead of it.
                self._under_way -= batch.size
            waiting = acks.waiting(batch.asked, reply)
        except Exception as error:
            if lent is not None:
                lent.give_back()
            batch.fail(error)  # every waiting claim must be answered, whatever the error
            if isinstance(error, UnavailableError) and time.perf_counter() - started_s >= self._silent_s:
                self._give_up_waiting()
            return
        results = reply.results
        decided = Decided(self._lane, reply, lent)
        if waiting:
            self._confirm(acks, batch, decided, waiting)
        else:
            decided.give_back()
            batch.resolve(results)
        metrics.SCRIPT_SECONDS.labels("claim").observe(time.perf_counter() - started_s)
        metrics.CLAIM_BATCH_SIZE.observe(batch.size)
        for outcome, count in Counter([result.outcome for result in results]).items():
            metrics.CLAIMS.labels(outcome.name.lower()).inc(count)

    def _give_up_waiting(self) -> None:
        """Fail everything queued behind a call that got no answer. It has waited long enough and was never sent."""
        waiting, self._waiting = self._waiting, deque()
        for batch in waiting:
            self._size -= batch.size
            batch.fail(UnavailableError("Redis does not answer.", is_undone=True))

    def _confirm(self, acks: Acks, batch: Batch, decided: Decided, waiting: dict[Ack, list[int]]) -> None:
        """Answer the claims that need no confirmation. Confirm the others while the next calls go on."""
        results = decided.reply.results
        later = frozenset(chain.from_iterable(waiting.values()))
        batch.resolve_some({place: result for place, result in enumerate(results) if place not in later})
        self.unconfirmed += len(later)

        def tell(places: Sequence[int], failed: HongbaoError | None) -> None:
            self.unconfirmed -= len(places)
            batch.resolve_some({place: failed or results[place] for place in places})

        task = asyncio.create_task(acks.confirm(decided, waiting, tell))
        self._confirming.add(task)
        task.add_done_callback(self._confirming.discard)
