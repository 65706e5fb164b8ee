"""Group commit for sendings: while a merchant's transaction is under way, its next calls wait and go together.

One transaction writes the orders and pays for them. It is for the usual case only: new numbers, within all limits, from
a wallet that holds enough. For whatever else, nothing of it stays, and each order goes its own way (``sending``), which
finds out and says what is wrong. So this decides nothing but that all is well, and both may do the same order: its
number is written once.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import asyncpg
import structlog

from engine.calendar.china_time import begin_ms, day_of
from engine.errors import HongbaoError, UnavailableError
from engine.lanes.store import Store
from engine.ledger import volumes
from engine.ledger.database import Connection, ledger_change
from engine.ledger.money import now_ms
from engine.observability.repeats import repeats
from engine.packets import joint
from engine.packets.sending import Numbered, Packets, Reading
from engine.queries import load
from engine.records import Terms
from engine.risk import limits, watch
from engine.risk.freezes import Freezes
from engine.settings import Settings
from engine.wechatpay.orders import (
    MINUTE_MS,
    Api,
    Asked,
    Order,
    OrderState,
    UserBounds,
    count_sendings,
    turn_of,
    user_bounds,
)

LOG = structlog.get_logger()
SQL = load("wechatpay")


class _Payer(NamedTuple):
    """Whose sendings can go together."""

    account: str
    mch_id: str
    api: Api
    address: str


class _Waiting(NamedTuple):
    """A sending, and its answer: None if it must go its own way."""

    asked: Asked
    terms: Terms
    paid: "asyncio.Future[Order | None]"


class Joining:
    """One process's joint sendings. As many wait as requests are in progress, which is bounded (api.limits)."""

    def __init__(self, pool: asyncpg.Pool, packets: Packets, store: Store, settings: Settings) -> None:
        self._pool, self._packets, self._store, self._settings = pool, packets, store, settings
        self._freezes = Freezes(pool, store)
        self._queues: dict[_Payer, deque[_Waiting]] = {}
        self._work: set[asyncio.Task[None]] = set()

    async def send(self, asked: Asked, terms: Terms) -> Order | None:
        """Pay for an order together with others. Returns it once its packet is open, or None if it was not done here.

        None says nothing about the order: another process, or a COMMIT without an answer, may have paid for it.
        """
        payer = _Payer(asked.account, asked.mch_id, asked.api, asked.address)
        waiting = _Waiting(asked, terms, asyncio.get_running_loop().create_future())
        queue = self._queues.get(payer)
        if queue is None:
            queue = self._queues[payer] = deque()
            self._start(self._drain(payer, queue))
        queue.append(waiting)
        return await waiting.paid

    async def close(self) -> None:
        """Wait until what was begun is answered."""
        while self._work:
            await asyncio.wait(self._work)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _drain(self, payer: _Payer, queue: "deque[_Waiting]") -> None:
        while queue:
            await self._send(payer, [queue.popleft() for _ in range(min(len(queue), joint.PACKETS_MAX))])
        del self._queues[payer]

    async def _send(self, payer: _Payer, together: Sequence[_Waiting]) -> None:
        try:
            reading = await self._packets.new_reading(None)
            async with ledger_change(self._pool) as connection:
                paid = await self._pay(connection, payer, together, reading)
        except (HongbaoError, asyncpg.IntegrityConstraintViolationError) as error:
            if isinstance(error, UnavailableError) and (times := repeats.times(("not_joined",), str(error))):
                LOG.warning("wechatpay_not_joined", error=str(error), times=times)
            paid = []
        except BaseException as error:  # every call must be answered, whatever the error
            for waiting in together:
                _fail(waiting, error)
            if not isinstance(error, Exception):
                raise
            return
        if paid:  # the next transaction need not wait for Redis
            self._start(self._finish(payer, paid, reading))
        done = {id(one.waiting) for one in paid}
        for waiting in together:
            if id(waiting) not in done:
                _answer(waiting, None)

    async def _finish(self, payer: _Payer, paid: "Sequence[_Paid]", reading: Reading) -> None:
        """Open the packets, and answer."""
        try:
            for one in paid:
                what, total_fen = one.packet.terms.purpose.value, one.packet.terms.total_fen
                await watch.freeze_if_large(self._freezes, self._settings, payer.account, total_fen, what=what)
            await joint.open_all(self._store, [one.packet for one in paid], reading)
        finally:
            for one in paid:
                _answer(one.waiting, one.order)

    async def _pay(
        self, connection: Connection, payer: _Payer, together: Sequence[_Waiting], reading: Reading
    ) -> "list[_Paid]":
        """Write and pay for those that are new and within their users' bounds. Raises if any other rule refuses one."""
        await limits.lock(connection, payer.account)
        at_ms, usual = await self._within_bounds(connection, payer, together)
        if not usual:
            return []
        packets = joint.numbered([one.terms for one in usual], reading, await volumes.last(connection))
        paid = await _written(connection, payer, usual, packets, at_ms=at_ms)
        if not paid:
            return []
        await count_sendings(
            connection,
            self._settings,
            payer.mch_id,
            payer.api,
            at_ms=at_ms,
            sends=len(paid),
            amount_fen=sum(one.order.amount_fen for one in paid),
        )
        await joint.pay(
            connection,
            self._settings,
            payer.account,
            [one.packet for one in paid],
            address=payer.address,
            at_ms=reading.at_ms,
        )
        return paid

    async def _within_bounds(
        self, connection: Connection, payer: _Payer, together: Sequence[_Waiting]
    ) -> tuple[int, list[_Waiting]]:
        """Postgres's time, and whose users may be sent all of it. No two have the same number."""
        usual = list({one.asked.number: one for one in reversed(together)}.values())[::-1]
        bounds = user_bounds(self._settings, payer.api)
        if not any(bounds):
            return await now_ms(connection), usual
        at_ms: int = await connection.fetchval(SQL["take_all_turns"], [turn_of(one.asked) for one in usual])
        users = {(one.asked.appid, one.asked.openid): _Sent() for one in usual}
        spans = (at_ms - MINUTE_MS, begin_ms(day_of(at_ms)))
        appids, openids = map(list, zip(*users, strict=True))
        for row in await connection.fetch(SQL["to_users"], payer.mch_id, payer.api, appids, openids, *spans):
            users[row["appid"], row["openid"]] = _Sent(row["in_minute"], row["in_day"], row["day_fen"])
        for one in usual:
            sent = users[one.asked.appid, one.asked.openid]
            users[one.asked.appid, one.asked.openid] = sent.and_one_of(one.asked.amount_fen)
        return at_ms, [one for one in usual if users[one.asked.appid, one.asked.openid].is_within(bounds)]


class _Sent(NamedTuple):
    """What a user was sent."""

    in_minute: int = 0
    in_day: int = 0
    day_fen: int = 0

    def and_one_of(self, amount_fen: int) -> "_Sent":
        return _Sent(self.in_minute + 1, self.in_day + 1, self.day_fen + amount_fen)

    def is_within(self, bounds: UserBounds) -> bool:
        return all(not most or value <= most for value, most in zip(self, bounds, strict=True))


class _Paid(NamedTuple):
    waiting: _Waiting
    packet: Numbered
    order: Order


async def _written(
    connection: Connection, payer: _Payer, usual: Sequence[_Waiting], packets: Sequence[Numbered], *, at_ms: int
) -> list[_Paid]:
    """Write orders as paid. Without those whose number was known: their packets are left out."""
    in_order = sorted(zip(usual, packets, strict=True), key=lambda pair: pair[0].asked.number)
    columns = zip(*(_columns(one.asked, packet) for one, packet in in_order), strict=True)
    shared = (payer.mch_id, payer.api, payer.account, payer.address, at_ms)
    rows = await connection.fetch(SQL["add_paid_orders"], *shared, *map(list, columns))
    order_ids = {row["packet_id"]: row["order_id"] for row in rows}
    return [
        _Paid(one, packet, _order(one.asked, order_ids[int(packet.packet_id)], packet.packet_id, at_ms))
        for one, packet in in_order
        if int(packet.packet_id) in order_ids
    ]


def _columns(asked: Asked, packet: Numbered) -> tuple[object, ...]:
    return (
        *(asked.number, asked.kind.value, asked.terms_hash, asked.appid, asked.openid, asked.amount_fen, asked.count),
        *(asked.wishing, asked.send_name, asked.act_name, asked.remark, asked.notify_url, asked.platform_serial),
        int(packet.packet_id),
    )


def _order(asked: Asked, order_id: int, packet_id: str, at_ms: int) -> Order:
    return Order(
        **{each.name: getattr(asked, each.name) for each in fields(asked)},
        order_id=order_id,
        state=OrderState.PAID,
        err_code=None,
        err_text=None,
        packet_id=packet_id,
        asked_at_ms=at_ms,
        given_at_ms=None,
        notice_due_at_ms=None if asked.notify_url is None else at_ms,
        notice_tries=0,
        cancelled_at_ms=None,
    )


def _answer(waiting: _Waiting, order: Order | None) -> None:
    if not waiting.paid.done():  # a client that has gone has cancelled it
        waiting.paid.set_result(order)


def _fail(waiting: _Waiting, error: BaseException) -> None:
    if waiting.paid.done():
        return
    if isinstance(error, Exception):
        waiting.paid.set_exception(error)
    else:
        waiting.paid.cancel()
