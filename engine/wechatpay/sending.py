"""Sends what merchants ask for: packets that users claim, and payments that are theirs at once.

Each step may be repeated: by the merchant with the same number, by a question about it, and by a loop of the sweeper.
"""

from dataclasses import replace

from engine.claiming.claims import Claims
from engine.errors import (
    AddressNotAllowedError,
    FrozenError,
    HongbaoError,
    IdempotencyInFlightError,
    InsufficientFundsError,
    InvalidFieldsError,
    LimitExceededError,
    LimitReachedError,
    UnavailableError,
)
from engine.lanes.replies import CloseReason
from engine.lanes.store import Store
from engine.ledger.database import Connection
from engine.packets import split as splitting
from engine.packets.sending import Packets
from engine.records import Outcome, Purpose, SplitKind, Terms
from engine.settings import Settings
from engine.wechatpay.joining import Joining
from engine.wechatpay.orders import Asked, Order, OrderKind, Orders, OrderState, note_paid
from engine.wechatpay.refusals import Code, RefusalError

_GIVEN = (Outcome.CLAIMED, Outcome.ALREADY)
_LATER = (Code.SYSTEMERROR, Code.PROCESSING)
"""After these the order goes on by itself."""


_TOLD: dict[type[HongbaoError], tuple[Code, str | None]] = {
    InsufficientFundsError: (Code.NOTENOUGH, None),
    FrozenError: (Code.NO_AUTH, "商户账户已被冻结，不能付款"),
    LimitReachedError: (Code.NO_AUTH, "商户账户暂时不能付款，请稍后再试"),
    AddressNotAllowedError: (Code.NO_AUTH, "商户账户不能从此IP地址付款"),
    IdempotencyInFlightError: (Code.PROCESSING, None),
}
"""Errors of the engine, and what a merchant is told. Any other is SYSTEMERROR."""


class Sending:
    """The use cases of a merchant who sends."""

    def __init__(
        self, orders: Orders, packets: Packets, claims: Claims, store: Store, *, joining: Joining, settings: Settings
    ) -> None:
        self._orders, self._joining, self._packets, self._claims = orders, joining, packets, claims
        self._store, self._settings = store, settings

    async def send(self, asked: Asked) -> tuple[Order, bool]:
        """Pay what is asked for, once per number. Returns the order, and whether it was asked for before.

        Raises RefusalError as ``Orders.admit`` and ``finish`` do.
        """
        terms = terms_of(asked, self._settings)  # what can never be sent is no order
        paid = await self._joining.send(asked, terms)
        if paid is not None:
            return await self.finish(paid), False
        try:
            order = await self._orders.admit(asked)
        except UnavailableError:
            raise RefusalError(Code.SYSTEMERROR) from None
        was_known = order.state is not OrderState.ASKED
        return await self.finish(order), was_known

    async def finish(self, order: Order) -> Order:
        """Do what is left of an order.

        Raises RefusalError. After SYSTEMERROR and PROCESSING the order goes on by itself. After SEND_FAILED it is over.
        After any other code it can be asked for again.
        """
        try:
            if order.state is OrderState.ASKED:
                order = await self._pay(order)
            if order.state is OrderState.PAID and order.kind is OrderKind.TRANSFER:
                order = await self._give(order)
        except RefusalError as refusal:
            if refusal.err_code not in _LATER:
                await self._note(order, refusal)
            raise
        return order

    async def fail(self, asked: Asked, refusal: RefusalError) -> None:
        """Write an order that has failed, as the sandbox asks for."""
        order = await self._orders.admit(asked)
        await self._orders.refuse(order, refusal)

    async def _note(self, order: Order, refusal: RefusalError) -> None:
        try:
            await self._orders.refuse(order, refusal)
        except UnavailableError:  # the order stays as it is, and goes on by itself
            raise RefusalError(Code.SYSTEMERROR) from None

    async def _pay(self, order: Order) -> Order:
        async def note(connection: Connection, packet_id: str) -> None:
            await note_paid(connection, order, packet_id)

        try:
            sent = await self._packets.send(
                order.account,
                terms_of(order, self._settings),
                address=order.address,
                idempotency_key=_key_of(order),
                request_hash=order.terms_hash,
                note=note,
            )
        except HongbaoError as error:
            raise refusal_of(error, order) from None
        return replace(order, state=OrderState.PAID, packet_id=sent.packet_id)

    async def _give(self, order: Order) -> Order:
        """Put a payment into its user's wallet. If the user may not receive it, it goes back, for good."""
        packet_id = order.packet_id or ""
        try:
            try:
                outcome = (await self._claims.claim(packet_id, order.user_id)).outcome
            except (FrozenError, LimitReachedError):
                await self._store.close(packet_id, CloseReason.RETURNED)
                outcome = (await self._claims.claim(packet_id, order.user_id)).outcome
            if outcome in _GIVEN:
                return await self._orders.note_given(order, await self._orders.clock_ms())
        except HongbaoError:
            raise RefusalError(Code.SYSTEMERROR) from None
        raise RefusalError(Code.SEND_FAILED, "收款用户账户不能收款，款项已退回，请更换单号再重试")


def terms_of(order: Asked | Order, settings: Settings) -> Terms:
    """The packet of an order. Raises RefusalError for an amount that WeChat Pay would not send."""
    is_group, is_transfer = order.kind is OrderKind.GROUP, order.kind in (OrderKind.TRANSFER, OrderKind.BILL)
    if is_transfer:
        lowest, highest = settings.wechatpay_transfer_fen_min, settings.wechatpay_transfer_fen_max
    else:
        lowest, highest = settings.wechatpay_packet_fen_min, settings.wechatpay_packet_fen_max
    if not lowest * order.count <= order.amount_fen <= highest * order.count:
        each = "平均每个" if is_group else "单个"
        text = f"{each}金额必须在{lowest / 100:.2f}元至{highest / 100:.2f}元之间"
        raise RefusalError(Code.AMOUNT_LIMIT if is_transfer else Code.MONEY_LIMIT, text)
    split = SplitKind.LUCKY if is_group else SplitKind.EQUAL
    min_fen, max_fen = (1, highest) if is_group else (order.amount_fen, order.amount_fen)
    try:
        splitting.check(split, order.amount_fen, order.count, min_fen, max_fen)
    except InvalidFieldsError as error:
        raise RefusalError(Code.PARAM_ERROR, str(error)) from None
    user_id = f"{order.appid}:{order.openid}"
    return Terms(
        total_fen=order.amount_fen,
        count=order.count,
        split=split,
        min_fen=min_fen,
        max_fen=max_fen,
        ttl_s=settings.wechatpay_bill_ttl_s if order.kind is OrderKind.BILL else settings.wechatpay_ttl_s,
        greeting=order.wishing,
        recipients=() if is_group else (user_id,),
        purpose=Purpose.TRANSFER if is_transfer else Purpose.PACKET,
    )


def refusal_of(error: HongbaoError, order: Asked | Order) -> RefusalError:
    """What a merchant is told about an error of the engine."""
    if isinstance(error, RefusalError):
        return error
    if isinstance(error, LimitExceededError):
        return RefusalError(Code.SENDAMOUNT_LIMIT if order.api == "redpack" else Code.MONEY_LIMIT)
    if isinstance(error, InvalidFieldsError):
        problems = "; ".join(f"{problem.field} {problem.message}" for problem in error.problems)
        return RefusalError(Code.PARAM_ERROR, problems)
    code, text = next((told for kind, told in _TOLD.items() if isinstance(error, kind)), (Code.SYSTEMERROR, None))
    return RefusalError(code, text)


def _key_of(order: Order) -> str:
    """The Idempotency-Key of an order's packet. It has blanks, so no request to /v1 can use it."""
    return f"wechatpay {order.mch_id} {order.api} {order.number}"
