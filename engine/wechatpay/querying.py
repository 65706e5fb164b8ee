"""Tells merchants what has become of their orders, in WeChat Pay's words."""

from dataclasses import dataclass
from enum import StrEnum

from engine.errors import HongbaoError, UnavailableError
from engine.packets.views import PacketView, Views
from engine.records import PacketState
from engine.wechatpay.orders import Order, OrderKind, Orders, OrderState
from engine.wechatpay.refusals import Code, RefusalError
from engine.wechatpay.sending import Sending

_CLAIMS_MAX = 100
"""A group packet has fewer shares."""


class PacketStatus(StrEnum):
    """The words of gethbinfo."""

    SENDING = "SENDING"  # asked for, and not open yet
    SENT = "SENT"  # to be claimed
    FAILED = "FAILED"
    RECEIVED = "RECEIVED"  # every share is claimed
    RFUND_ING = "RFUND_ING"  # over; what is left is on its way back
    REFUND = "REFUND"  # what was left is back


class PaymentStatus(StrEnum):
    """The words of gettransferinfo."""

    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    PROCESSING = "PROCESSING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One share. ``openid``: without its appid, if it is one of the packet's appid."""

    openid: str
    amount_fen: int
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketFound:
    """What has become of a packet. ``refund_fen``, ``refund_at_ms`` None: nothing has gone back."""

    order: Order
    status: PacketStatus
    sent_at_ms: int
    refund_fen: int | None = None
    refund_at_ms: int | None = None
    received: tuple[Received, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentFound:
    """What has become of a payment to change."""

    order: Order
    status: PaymentStatus


class Querying:
    """The use cases of a merchant who asks. They finish what a crash has left. They raise RefusalError."""

    def __init__(self, orders: Orders, sending: Sending, views: Views) -> None:
        self._orders, self._sending, self._views = orders, sending, views

    async def packet(self, mch_id: str, number: str) -> PacketFound:
        """A packet by its mch_billno. Raises RefusalError: NOT_FOUND, SYSTEMERROR."""
        order = await self._finished(mch_id, "redpack", number)
        if order.packet_id is None:
            status = PacketStatus.FAILED if order.state is OrderState.REFUSED else PacketStatus.SENDING
            return PacketFound(order=order, status=status, sent_at_ms=order.asked_at_ms)
        try:
            view = await self._views.packet(order.packet_id)
            claims = (await self._views.claims(order.packet_id, after=None, limit=_CLAIMS_MAX)).claims
        except UnavailableError:
            raise RefusalError(Code.SYSTEMERROR, "系统繁忙，请稍后再试") from None
        status = _status(view)
        is_back = status is PacketStatus.REFUND
        received = sorted(
            (
                Received(
                    openid=claim.user_id.removeprefix(f"{order.appid}:"),
                    amount_fen=claim.amount_fen or 0,
                    at_ms=claim.claimed_at_ms,
                )
                for claim in claims
            ),
            key=lambda share: share.at_ms,
        )
        return PacketFound(
            order=order,
            status=status,
            sent_at_ms=view.created_at_ms,
            refund_fen=view.remaining_fen if is_back else None,
            refund_at_ms=view.settled_at_ms if is_back else None,
            received=tuple(received),
        )

    async def payment(self, mch_id: str, number: str) -> PaymentFound:
        """A payment by its partner_trade_no. Raises RefusalError: NOT_FOUND, SYSTEMERROR."""
        order = await self._finished(mch_id, "transfer", number)
        if order.state is OrderState.GIVEN:
            return PaymentFound(order=order, status=PaymentStatus.SUCCESS)
        is_refused = order.state is OrderState.REFUSED
        return PaymentFound(order=order, status=PaymentStatus.FAILED if is_refused else PaymentStatus.PROCESSING)

    async def _finished(self, mch_id: str, api: str, number: str) -> Order:
        try:
            order = await self._orders.find(mch_id, "transfer" if api == "transfer" else "redpack", number)
            if order is None:
                raise RefusalError(Code.NOT_FOUND)
            if order.state is OrderState.ASKED or (order.state is OrderState.PAID and order.kind is OrderKind.TRANSFER):
                return await self._as_far_as_possible(order)
        except UnavailableError:
            raise RefusalError(Code.SYSTEMERROR, "系统繁忙，请稍后再试") from None
        return order

    async def _as_far_as_possible(self, order: Order) -> Order:
        try:
            return await self._sending.finish(order)
        except HongbaoError:
            found = await self._orders.find(order.mch_id, order.api, order.number)
            return order if found is None else found


def _status(view: PacketView) -> PacketStatus:
    match view.state:
        case PacketState.FUNDED:
            return PacketStatus.SENDING
        case PacketState.OPEN:
            return PacketStatus.SENT
        case PacketState.EXHAUSTED:
            return PacketStatus.RECEIVED
        case _:
            return PacketStatus.RFUND_ING if view.settled_at_ms is None else PacketStatus.REFUND
