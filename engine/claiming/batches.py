"""Claims that leave together in one call of the script, and the ways in which their answers go back."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, islice

import structlog

from engine.errors import HongbaoError
from engine.records import ClaimResult

Answer = ClaimResult | HongbaoError
"""One claim's result, or the error that it is not confirmed."""
Deliver = Callable[[ClaimResult | Exception], None]
"""Takes one claim's answer, or what ``Store.claim`` raised."""

_log = structlog.get_logger(__name__)


class Singles:
    """Claims that came one by one and will leave together. Each has its own answer."""

    def __init__(self) -> None:
        self.asked: dict[str, list[str]] = {}
        self.size = 0
        self.sent_s = 0.0
        self._deliveries: dict[str, list[Deliver]] = {}

    def add(self, packet_id: str, user_id: str, deliver: Deliver) -> None:
        """One more claim, and who takes its answer."""
        users = self.asked.get(packet_id)
        if users is None:
            self.asked[packet_id], self._deliveries[packet_id] = [user_id], [deliver]
        else:
            users.append(user_id)
            self._deliveries[packet_id].append(deliver)
        self.size += 1

    def move(self, other: "Singles", size_max: int) -> None:
        """Give the first claims away, in the order of packets, ``size_max`` at most."""
        left = size_max
        for packet_id in list(islice(self.asked, size_max)):
            users, deliveries = self.asked[packet_id], self._deliveries[packet_id]
            other.asked.setdefault(packet_id, []).extend(users[:left])
            other._deliveries.setdefault(packet_id, []).extend(deliveries[:left])
            moved = min(left, len(users))
            self.size, other.size, left = self.size - moved, other.size + moved, left - moved
            del users[:moved], deliveries[:moved]
            if not users:
                del self.asked[packet_id], self._deliveries[packet_id]
            if not left:
                break

    def resolve(self, answers: Sequence[ClaimResult | Exception]) -> None:
        """Answer every claim."""
        _deliver(zip(self._in_order(), answers, strict=True))

    def resolve_some(self, answers: Mapping[int, Answer]) -> None:
        """Answer some claims, by their places. The other answers follow later."""
        deliveries = list(self._in_order())
        _deliver((deliveries[place], answer) for place, answer in answers.items())

    def _in_order(self) -> Iterable[Deliver]:
        return chain.from_iterable(self._deliveries.values())

    def fail(self, error: Exception) -> None:
        """Answer every claim with what ``Store.claim`` raised."""
        self.resolve([error] * self.size)


def _deliver(answers: Iterable[tuple[Deliver, ClaimResult | Exception]]) -> None:
    for deliver, answer in answers:
        try:
            deliver(answer)
        except Exception:  # one failed delivery must not stop the others
            _log.exception("an answer could not be delivered")


class Order:
    """Claims that came together and leave together, with one answer for all."""

    def __init__(self, asked: Mapping[str, Sequence[str]], size: int) -> None:
        self.asked, self.size = asked, size
        self.sent_s = 0.0
        self.answer: asyncio.Future[Sequence[Answer]] = asyncio.get_running_loop().create_future()
        self._answers: dict[int, Answer] = {}

    def resolve(self, answers: Sequence[Answer]) -> None:
        """Answer the order."""
        if not self.answer.done():
            self.answer.set_result(answers)

    def resolve_some(self, answers: Mapping[int, Answer]) -> None:
        """As ``Singles``, but with one answer, once all results are there."""
        self._answers.update(answers)
        if len(self._answers) == self.size:
            self.resolve([self._answers[place] for place in range(self.size)])

    def fail(self, error: Exception) -> None:
        """Have the order raise what ``Store.claim`` raised."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Joined:
    """Orders that came one after another and leave in one call: each gets its own part of the answers."""

    def __init__(self, orders: Sequence[Order]) -> None:
        self._orders = orders
        self.asked: dict[str, list[str]] = {}
        self.size = sum(order.size for order in orders)
        self.sent_s = 0.0
        for order in orders:
            for packet_id, named in order.asked.items():
                self.asked.setdefault(packet_id, []).extend(named)

    def resolve(self, answers: Sequence[Answer]) -> None:
        """Answer every order."""
        for order, places in self._places():
            order.resolve([answers[place] for place in places])

    def resolve_some(self, answers: Mapping[int, Answer]) -> None:
        """Answer some claims, by their places. An order has its answer once all of its own are there."""
        for order, places in self._places():
            order.resolve_some({own: answers[place] for own, place in enumerate(places) if place in answers})

    def fail(self, error: Exception) -> None:
        """Have every order raise it."""
        for order in self._orders:
            order.fail(error)

    def _places(self) -> Iterable[tuple[Order, list[int]]]:
        """Each order, and where its claims are among all."""
        next_of: dict[str, int] = {}
        first = 0
        for packet_id, all_users in self.asked.items():
            next_of[packet_id] = first
            first += len(all_users)
        for order in self._orders:
            places: list[int] = []
            for packet_id, users in order.asked.items():
                place = next_of[packet_id]
                next_of[packet_id] = place + len(users)
                places += range(place, place + len(users))
            yield order, places


Batch = Singles | Order | Joined


def next_batch(waiting: deque[Singles | Order], size_max: int, singles_max: int) -> Batch:
    """Take what leaves next off the queue: orders together, as far as they are ``size_max`` claims at most.

    A call costs as much as thirty claims, and an order for several lanes is a small part of a call in each.
    Claims that came one by one leave as ``singles_max`` at most. What is left of them must not get more.
    """
    first = waiting[0]
    has_next = len(waiting) > 1 and isinstance(waiting[1], Singles)
    if isinstance(first, Singles) and (first.size > singles_max or has_next):
        return _first_singles(waiting, singles_max)
    waiting.popleft()
    if isinstance(first, Singles) or not waiting:
        return first
    orders, size = [first], first.size
    while waiting and isinstance(later := waiting[0], Order) and size + later.size <= size_max:
        orders.append(later)
        size += later.size
        waiting.popleft()
    return first if len(orders) == 1 else Joined(orders)


def _first_singles(waiting: deque[Singles | Order], size_max: int) -> Singles:
    """What is left of an earlier batch goes first, and those that came after it fill the call."""
    batch = Singles()
    while batch.size < size_max and waiting and isinstance(first := waiting[0], Singles):
        first.move(batch, size_max - batch.size)
        if not first.size:
            waiting.popleft()
    return batch
