"""Group commit for claims: while a script call is under way, the claims that arrive wait and go together in the next.

An idle lane's claim leaves in the same turn of the event loop; a busy lane is asked once a millisecond, or sooner for
many. What waits is bounded, in number and in time: while those before it are expected to take too long, a claim is
refused before it reaches Redis, so that those that are taken are answered soon, however many ask.
"""

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import NoReturn

import structlog

from engine.claiming.acks import Acks, Decided
from engine.errors import HongbaoError, OverloadedError, UnavailableError
from engine.lanes.store import Store
from engine.observability import metrics
from engine.records import Ack, ClaimResult
from engine.settings import Settings

Answer = ClaimResult | HongbaoError
"""One claim's answer, or that it is not confirmed."""
Deliver = Callable[[ClaimResult | Exception], None]
"""Takes one claim's answer, or what ``Store.claim`` raised."""

PACE_S = 0.001
PACE_BELOW = 32
"""Fewer than PACE_BELOW claims wait until PACE_S after the previous call, so that at half load calls are few and full:
a call costs as much as thirty claims. A claim that comes alone does not wait."""

CLAIM_S_FIRST = 0.00003
"""What a claim is taken to cost before any was measured."""
_MEASURED_MIN, _WEIGHT, _GROWTH_MAX = 32, 0.2, 4.0
"""Calls of fewer claims say little about the cost of one. A call has this weight in the average, and counts as at most
this multiple of it: a short stall is no slow Redis."""

_SILENT_SHARE = 0.9
"""A call that failed after this share of its time has failed by silence: the next would wait as long again."""

_log = structlog.get_logger(__name__)


class _Singles:
    """Claims that came one by one and will leave together; each has its own answer."""

    def __init__(self) -> None:
        self.asked: dict[str, list[str]] = {}
        self.size = 0
        self.sent_s = 0.0
        self._deliveries: dict[str, list[Deliver]] = {}

    def add(self, packet_id: str, user_id: str, deliver: Deliver) -> None:
        users = self.asked.get(packet_id)
        if users is None:
            self.asked[packet_id], self._deliveries[packet_id] = [user_id], [deliver]
        else:
            users.append(user_id)
            self._deliveries[packet_id].append(deliver)
        self.size += 1

    def resolve(self, answers: Sequence[ClaimResult | Exception]) -> None:
        """Give everyone an answer."""
        _deliver(zip(self._in_order(), answers, strict=True))

    def resolve_some(self, answers: Mapping[int, Answer]) -> None:
        """Give some their answers, by the places of their claims; the others' are to come."""
        deliveries = list(self._in_order())
        _deliver((deliveries[place], answer) for place, answer in answers.items())

    def _in_order(self) -> Iterable[Deliver]:
        return chain.from_iterable(self._deliveries.values())

    def fail(self, error: Exception) -> None:
        self.resolve([error] * self.size)


def _deliver(answers: Iterable[tuple[Deliver, ClaimResult | Exception]]) -> None:
    for deliver, answer in answers:
        try:
            deliver(answer)
        except Exception:  # what is wrong with one answer must not keep the others from theirs
            _log.exception("an answer could not be delivered")


class _Order:
    """Claims that came together and leave together, with one answer for all."""

    def __init__(self, asked: Mapping[str, Sequence[str]], size: int) -> None:
        self.asked, self.size = asked, size
        self.sent_s = 0.0
        self.answer: asyncio.Future[Sequence[Answer]] = asyncio.get_running_loop().create_future()
        self._answers: dict[int, Answer] = {}

    def resolve(self, answers: Sequence[Answer]) -> None:
        if not self.answer.done():
            self.answer.set_result(answers)

    def resolve_some(self, answers: Mapping[int, Answer]) -> None:
        """As ``_Singles``; the one answer is given when all are there."""
        self._answers.update(answers)
        if len(self._answers) == self.size:
            self.resolve([self._answers[place] for place in range(self.size)])

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
    """One lane's, in one process. While it refuses claims its lane is in ``full_lanes``.

    ``acks``: what answers wait for beyond the script's.
    """

    def __init__(self, store: Store, lane: int, settings: Settings, full_lanes: set[int], acks: Acks) -> None:
        self._store, self._lane, self._acks = store, lane, acks
        self._waiting: deque[_Singles | _Order] = deque()
        self._open = _Singles()  # the last of those that wait, if it still takes claims
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
        """Claims that are decided and wait to be confirmed."""
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._last_call_s = -math.inf  # zero is a moment of a clock that begins when the machine starts
        self._closed = False

    def claim(self, packet_id: str, user_id: str) -> "asyncio.Future[ClaimResult]":
        """Queue one claim; the future resolves to its answer, or what ``Store.claim`` raises.

        Raises OverloadedError when too many wait. Cancelling the future does not take the claim back.
        """
        answer: asyncio.Future[ClaimResult] = asyncio.get_running_loop().create_future()
        self.claim_for(packet_id, user_id, partial(_settle, answer))
        return answer

    def claim_for(self, packet_id: str, user_id: str, deliver: Deliver) -> None:
        """Queue one claim whose answer is handed to ``deliver``, once, without a future in between.

        Raises OverloadedError when too many wait.
        """
        if not self._waiting or self._waiting[-1] is not self._open or self._open.size >= self._per_call_max:
            self._admit(1)
            self._open = _Singles()
            self._waiting.append(self._open)
        else:
            self._admit(1)
        self._open.add(packet_id, user_id, deliver)

    def claim_all(self, asked: Mapping[str, Sequence[str]]) -> "asyncio.Future[Sequence[Answer]]":
        """Queue claims (packet -> users, at most 1,000 in all) that go in one call; answers in the order of iteration.

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
        await asyncio.gather(*self._confirming)

    def _admit(self, size: int) -> None:
        if self._closed:
            raise UnavailableError("This process is shutting down.", is_undone=True)
        # What is ahead of it, not the claims themselves: a large order is taken whenever a single claim is.
        if self._size + self._under_way >= self._ahead_max or self._size + self.unconfirmed + size > self._size_max:
            self._refuse()
        self._size += size
        self._schedule()

    def _refuse(self) -> NoReturn:
        if self._calls:  # which will end, and then it is looked at again
            self._full_lanes.add(self._lane)
        raise OverloadedError("Too many claims are waiting.")

    def _bound_of_wait(self) -> int:
        """How many claims may be ahead of one that is taken, at what they cost now; always as many as a call takes."""
        return max(self._per_call_max, int(self._wait_s_max / self._claim_s))

    def _measure(self, batch: _Singles | _Order) -> None:
        """Learn from a call that has come back what a claim costs, everything between two calls included."""
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
            self._under_way += batch.size
            batch.sent_s = time.monotonic()
            self._last_call_s = asyncio.get_running_loop().time()
            call = asyncio.create_task(self._call(batch))
            self._calls.add(call)
            call.add_done_callback(partial(self._sent, batch))

    def _sent(self, batch: _Singles | _Order, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._measure(batch)
        if self._size + self._under_way < self._ahead_max:
            self._full_lanes.discard(self._lane)
        if self._waiting:
            self._schedule()

    async def _call(self, batch: _Singles | _Order) -> None:
        started_s = time.perf_counter()
        acks, lent = self._acks, self._store.lend()
        try:
            try:
                reply = await self._store.claim(self._lane, batch.asked, backlog_max=self._backlog_max, lent=lent)
            finally:
                # Before anybody hears his answer: who asks again at once must not find his last claim ahead of him.
                self._under_way -= batch.size
            waiting = acks.waiting(batch.asked, reply)
        except Exception as error:
            if lent is not None:
                lent.give_back()
            batch.fail(error)  # whatever it is, everyone who waits must hear of it
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
        """Answer all that wait behind a call that got no answer: each has waited long enough, and none was asked."""
        waiting, self._waiting = self._waiting, deque()
        for batch in waiting:
            self._size -= batch.size
            batch.fail(UnavailableError("Redis does not answer.", is_undone=True))

    def _confirm(self, acks: Acks, batch: _Singles | _Order, decided: Decided, waiting: dict[Ack, list[int]]) -> None:
        """Answer those that wait for nothing, and see to the others while the next calls go on."""
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
