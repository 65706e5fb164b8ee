"""Merchants' orders: each number is asked for, paid and given once, within the limits.

An order is written before anything is paid, and the transaction that pays notes the packet in it. So the merchant's own
number decides, whatever becomes of processes in between, and for as long as the ledger is kept.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Literal, NamedTuple

import asyncpg

from engine.calendar.china_time import begin_ms, day_of
from engine.ledger.database import Connection, ledger_change, ledger_errors
from engine.ledger.money import now_ms
from engine.queries import load
from engine.settings import Settings
from engine.wechatpay.refusals import Code, RefusalError

SQL = load("wechatpay")
Api = Literal["redpack", "transfer", "bill"]
NONCE_MS = 3_600_000
"""How long nonces are kept: longer than any call of the third version is taken."""
MINUTE_MS = 60_000
_ADMISSIONS_MAX = 3


class OrderKind(StrEnum):
    """What is sent."""

    NORMAL = "normal"  # a packet for one user
    GROUP = "group"  # a packet of several shares, for whoever has its number (裂变红包)
    TRANSFER = "transfer"  # a payment to a user's change (企业付款到零钱)
    BILL = "bill"  # the same in the third version (商家转账): the user must confirm it


class OrderState(StrEnum):
    """``asked -> paid -> given``, or ``refused``. Packets stay ``paid``: their own state says the rest."""

    ASKED = "asked"  # admitted; nothing is paid
    PAID = "paid"  # its packet is paid for
    GIVEN = "given"  # a payment is with its user
    REFUSED = "refused"  # without a packet: it may be asked again


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a merchant asks for. ``number``: its own (mch_billno, partner_trade_no). ``address``: where it asks from."""

    mch_id: str
    api: Api
    number: str
    kind: OrderKind
    terms_hash: bytes
    account: str
    address: str
    appid: str
    openid: str
    amount_fen: int
    count: int = 1
    wishing: str = ""
    send_name: str = ""
    act_name: str = ""
    remark: str = ""
    notify_url: str | None = None
    platform_serial: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order as it is kept."""

    order_id: int
    mch_id: str
    api: Api
    number: str
    kind: OrderKind
    terms_hash: bytes
    account: str
    address: str
    appid: str
    openid: str
    amount_fen: int
    count: int
    wishing: str
    send_name: str
    act_name: str
    remark: str
    state: OrderState
    err_code: str | None
    err_text: str | None
    packet_id: str | None
    asked_at_ms: int
    given_at_ms: int | None
    notify_url: str | None
    platform_serial: str | None
    notice_due_at_ms: int | None
    notice_tries: int
    cancelled_at_ms: int | None

    @property
    def user_id(self) -> str:
        """Who gets it."""
        return user_id_of(self.appid, self.openid)


def user_id_of(appid: str, openid: str) -> str:
    """The user of ours that an openid of an appid stands for."""
    return f"{appid}:{openid}"


class UserBounds(NamedTuple):
    """How often, and with how much, a merchant may send to one user. 0: no bound."""

    in_minute: int
    in_day: int
    day_fen: int


def user_bounds(settings: Settings, api: Api) -> UserBounds:
    """The bounds of an api."""
    return UserBounds(
        0 if api == "bill" else settings.wechatpay_user_sends_a_minute_max,
        settings.wechatpay_user_sends_a_day_max,
        settings.wechatpay_user_day_fen_max if api == "redpack" else settings.wechatpay_user_day_transfer_fen_max,
    )


def turn_of(asked: Asked) -> str:
    """The name of the lock under which a merchant's sendings to a user are counted."""
    return f"{asked.mch_id}\n{asked.api}\n{user_id_of(asked.appid, asked.openid)}"


async def count_sendings(
    connection: Connection, settings: Settings, mch_id: str, api: Api, *, at_ms: int, sends: int, amount_fen: int
) -> None:
    """Count sendings in their merchant's minute and day. Raises RefusalError if that passes a limit: undo it then."""
    is_transfer = api != "redpack"
    sends_max = 0 if api == "bill" else settings.wechatpay_sends_a_minute_max
    fen_max = settings.wechatpay_merchant_day_fen_max
    if not (sends_max or fen_max):
        return
    spans = (mch_id, api, at_ms - at_ms % MINUTE_MS, begin_ms(day_of(at_ms)), amount_fen, sends)
    counted = {row["span"]: row for row in await connection.fetch(SQL["count"], *spans)}
    if 0 < sends_max < counted["minute"]["sends"]:
        raise RefusalError(Code.FREQ_LIMIT)
    if 0 < fen_max < counted["day"]["amount_fen"]:
        text = "已达到今日付款总额上限" if is_transfer else None
        raise RefusalError(Code.MONEY_LIMIT if is_transfer else Code.SENDAMOUNT_LIMIT, text)


class Orders:
    """The register of orders. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool, self._settings = pool, settings

    async def find(self, mch_id: str, api: Api, number: str) -> Order | None:
        """An order by its number."""
        with ledger_errors(is_undone=True):
            row = await self._pool.fetchrow(SQL["order"], mch_id, api, number)
        return None if row is None else _order(row)

    async def admit(self, asked: Asked) -> Order:
        """Write an order that stays within the limits, in one transaction. A repeat gets the order as it is now.

        Raises RefusalError: FATAL_ERROR for a number of another order, SEND_FAILED for one that has failed for good,
        FREQ_LIMIT, SENDNUM_LIMIT, RCVDAMOUNT_LIMIT, SENDAMOUNT_LIMIT, MONEY_LIMIT.
        """
        for _ in range(_ADMISSIONS_MAX):
            async with ledger_change(self._pool) as connection:
                if any(user_bounds(self._settings, asked.api)):
                    await connection.execute(SQL["take_turns"], turn_of(asked))
                order = await self._add(connection, asked)
                if order is not None:
                    return order
                known = await connection.fetchrow(SQL["lock_order"], asked.mch_id, asked.api, asked.number)
                if known is not None:
                    return await self._again(connection, known, asked)
        raise RefusalError(Code.PROCESSING)

    async def _add(self, connection: Connection, asked: Asked) -> Order | None:
        """A new order, counted. None: it is known."""
        row = await connection.fetchrow(
            SQL["add_order"],
            *(asked.mch_id, asked.api, asked.number, asked.kind, asked.terms_hash, asked.account, asked.address),
            *(asked.appid, asked.openid, asked.amount_fen, asked.count, asked.wishing, asked.send_name),
            *(asked.act_name, asked.remark, asked.notify_url, asked.platform_serial),
        )
        if row is None:
            return None
        order = _order(row)
        await self._count(connection, order, order.asked_at_ms)
        return order

    async def _again(self, connection: Connection, known: asyncpg.Record, asked: Asked) -> Order:
        """A known order. One that was refused without being paid is asked for again."""
        order = _order(known)
        if order.terms_hash != asked.terms_hash:
            raise RefusalError(Code.FATAL_ERROR)
        if order.state is not OrderState.REFUSED:
            return order
        if order.packet_id is not None or order.err_code == Code.SEND_FAILED:
            raise RefusalError(Code.SEND_FAILED, order.err_text)
        at_ms = await now_ms(connection)
        (row,) = await connection.fetch(SQL["ask_again"], order.order_id, at_ms)
        await self._count(connection, order, at_ms)
        return _order(row)

    async def _count(self, connection: Connection, order: Order, at_ms: int) -> None:
        """Count an order in all limits. Its transaction is undone if one is passed."""
        is_transfer, bounds = order.api != "redpack", user_bounds(self._settings, order.api)
        day_ms = begin_ms(day_of(at_ms))
        if any(bounds):
            values = (order.mch_id, order.api, order.appid, order.openid, at_ms - MINUTE_MS, day_ms, order.order_id)
            (sent,) = await connection.fetch(SQL["to_user"], *values)
            if 0 < bounds.in_minute <= sent["in_minute"]:
                raise RefusalError(Code.FREQ_LIMIT, "一分钟内发给同一用户的次数超过限制，请稍后再试")
            if 0 < bounds.in_day <= sent["in_day"]:
                raise RefusalError(Code.SENDNUM_LIMIT, "该用户今日付款次数超过限制" if is_transfer else None)
            if 0 < bounds.day_fen < sent["day_fen"] + order.amount_fen:
                text = "已达到今日付款给此用户的额度上限" if is_transfer else None
                raise RefusalError(Code.MONEY_LIMIT if is_transfer else Code.RCVDAMOUNT_LIMIT, text)
        await count_sendings(
            connection, self._settings, order.mch_id, order.api, at_ms=at_ms, sends=1, amount_fen=order.amount_fen
        )

    async def note_given(self, order: Order, at_ms: int) -> Order:
        """Note that a payment is with its user. A repeat changes nothing."""
        async with ledger_change(self._pool) as connection:
            row = await connection.fetchrow(SQL["note_given"], order.order_id, at_ms)
        if row is not None:
            return _order(row)
        return await self.find(order.mch_id, order.api, order.number) or order

    async def refuse(self, order: Order, refusal: RefusalError) -> None:
        """Note that an order is refused, unless its state has changed since it was read."""
        day_ms = begin_ms(day_of(order.asked_at_ms))
        values = (order.order_id, order.state, refusal.err_code, str(refusal), day_ms)
        async with ledger_change(self._pool) as connection:
            await connection.execute(SQL["refuse"], *values)

    async def of_packet(self, mch_id: str, api: Api, packet_id: str) -> Order | None:
        """An order by its packet's number."""
        with ledger_errors(is_undone=True):
            row = await self._pool.fetchrow(SQL["order_of_packet"], mch_id, api, int(packet_id))
        return None if row is None else _order(row)

    async def cancel(self, order: Order) -> None:
        """Note that the merchant wants an end. A repeat changes nothing."""
        async with ledger_change(self._pool) as connection:
            await connection.execute(SQL["cancel"], order.order_id, await now_ms(connection))

    async def to_tell(self, limit: int, lease_ms: int) -> list[Order]:
        """Bills whose end is to be told now, each taken for this long."""
        with ledger_errors():
            at_ms = await now_ms(self._pool)
            return [_order(row) for row in await self._pool.fetch(SQL["take_notices"], at_ms, limit, lease_ms)]

    async def note_told(self, order: Order, again_in_ms: int | None) -> None:
        """Note when the end is told again. None: never."""
        with ledger_errors():
            due_at_ms = None if again_in_ms is None else await now_ms(self._pool) + again_in_ms
            await self._pool.execute(SQL["note_notice"], order.order_id, order.notice_tries, due_at_ms)

    async def use_nonce(self, mch_id: str, nonce: str, at_ms: int) -> bool:
        """Whether a call's nonce was not used before. Now it is."""
        with ledger_errors():
            return await self._pool.fetchval(SQL["use_nonce"], mch_id, nonce, at_ms) is not None

    async def unfinished(self, after: int, before_ms: int, limit: int) -> list[Order]:
        """Orders after this one, asked before a moment, that are neither paid nor refused, or payments not given."""
        with ledger_errors(is_undone=True):
            return [_order(row) for row in await self._pool.fetch(SQL["unfinished"], after, before_ms, limit)]

    async def clock_ms(self) -> int:
        """Postgres's clock, by which orders are asked."""
        with ledger_errors(is_undone=True):
            return await now_ms(self._pool)

    async def forget_counts(self, at_ms: int) -> None:
        """Forget what was counted before yesterday, and nonces of calls that would be too old by now."""
        with ledger_errors(is_undone=True):
            await self._pool.execute(SQL["forget_spans"], begin_ms(day_of(at_ms) - timedelta(days=1)))
            await self._pool.execute(SQL["forget_nonces"], at_ms - NONCE_MS)


async def note_paid(connection: Connection, order: Order, packet_id: str) -> None:
    """Note an order's packet, in the transaction that pays for it. Raises RefusalError if it may not be paid now."""
    if await connection.fetchval(SQL["note_paid"], order.order_id, int(packet_id)) is None:
        raise RefusalError(Code.PROCESSING)


def _order(row: asyncpg.Record) -> Order:
    values = dict(row)
    values["kind"], values["state"] = OrderKind(row["kind"]), OrderState(row["state"])
    values["packet_id"] = None if row["packet_id"] is None else str(row["packet_id"])
    return Order(**values)
