"""Transfer bills of the third version (商家转账): payments that their users confirm, unless they are cancelled before.

Each is an order, and its packet is for one user. Confirming is claiming it.
"""

from dataclasses import dataclass
from enum import StrEnum

from engine.errors import HongbaoError, UnavailableError
from engine.ids import is_packet_number
from engine.lanes.replies import CloseReason
from engine.lanes.store import Store
from engine.packets.views import Views
from engine.records import PacketState
from engine.wechatpay.orders import Asked, Order, Orders, OrderState
from engine.wechatpay.refusals import Code, RefusalError
from engine.wechatpay.sending import Sending


class BillState(StrEnum):
    """The words of the third version. The last three are final."""

    ACCEPTED = "ACCEPTED"  # asked for, or paid and not open yet
    WAIT_USER_CONFIRM = "WAIT_USER_CONFIRM"
    CANCELING = "CANCELING"  # its money is on its way back
    SUCCESS = "SUCCESS"
    CANCELLED = "CANCELLED"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """A bill. ``fail_reason``: only if it has failed."""

    order: Order
    state: BillState
    created_at_ms: int
    updated_at_ms: int
    fail_reason: str | None = None


class Bills:
    """A merchant's use cases. They raise RefusalError."""

    def __init__(self, orders: Orders, sending: Sending, views: Views, store: Store) -> None:
        self._orders, self._sending, self._views, self._store = orders, sending, views, store

    async def send(self, asked: Asked) -> tuple[Bill, bool]:
        """Pay for a bill, once per number. Returns it, and whether it was asked for before."""
        order, was_known = await self._sending.send(asked)
        return await self.of(order), was_known

    async def by_number(self, mch_id: str, number: str) -> Bill:
        """A bill by the merchant's number. Raises RefusalError: NOT_FOUND, SYSTEMERROR."""
        return await self._found(await self._orders.find(mch_id, "bill", number))

    async def by_packet(self, mch_id: str, packet_id: str) -> Bill:
        """A bill by our number. Raises RefusalError: NOT_FOUND, SYSTEMERROR."""
        if not is_packet_number(packet_id):
            raise RefusalError(Code.NOT_FOUND)
        return await self._found(await self._orders.of_packet(mch_id, "bill", packet_id))

    async def cancel(self, mch_id: str, number: str) -> Bill:
        """End a bill that its user has not confirmed. A repeat changes nothing.

        Raises RefusalError: NOT_FOUND, SEND_FAILED if it has ended otherwise, SYSTEMERROR.
        """
        bill = await self.by_number(mch_id, number)
        if bill.state in (BillState.SUCCESS, BillState.FAIL):
            raise RefusalError(Code.SEND_FAILED, f"转账单已是终态{bill.state.value}，不能撤销")
        if bill.state is BillState.ACCEPTED:
            raise RefusalError(Code.PROCESSING)
        try:
            await self._orders.cancel(bill.order)
            if bill.order.packet_id is not None:
                await self._store.close(bill.order.packet_id, CloseReason.RETURNED)
        except UnavailableError:
            raise RefusalError(Code.SYSTEMERROR) from None
        after = await self.by_number(mch_id, number)
        if after.state is BillState.SUCCESS:
            raise RefusalError(Code.SEND_FAILED, "用户已确认收款，不能撤销")
        return after

    async def _found(self, order: Order | None) -> Bill:
        if order is None:
            raise RefusalError(Code.NOT_FOUND)
        if order.state is OrderState.ASKED:
            try:
                order = await self._sending.finish(order)
            except HongbaoError:
                order = await self._orders.find(order.mch_id, order.api, order.number) or order
        return await self.of(order)

    async def of(self, order: Order) -> Bill:
        """An order as a bill. Raises RefusalError: SYSTEMERROR."""
        created_at_ms = order.asked_at_ms
        if order.packet_id is None:
            is_refused = order.state is OrderState.REFUSED
            state = BillState.FAIL if is_refused else BillState.ACCEPTED
            reason = order.err_code if is_refused else None
            return Bill(
                order=order, state=state, created_at_ms=created_at_ms, updated_at_ms=created_at_ms, fail_reason=reason
            )
        try:
            view = await self._views.packet(order.packet_id)
        except UnavailableError:
            raise RefusalError(Code.SYSTEMERROR) from None
        is_back, is_cancelled = view.settled_at_ms is not None, order.cancelled_at_ms is not None
        updated_at_ms, reason = view.settled_at_ms or order.cancelled_at_ms or created_at_ms, None
        match view.state:
            case PacketState.FUNDED:
                state = BillState.ACCEPTED
            case PacketState.OPEN:
                state = BillState.CANCELING if is_cancelled else BillState.WAIT_USER_CONFIRM
            case PacketState.EXHAUSTED:
                state = BillState.SUCCESS
            case _ if is_cancelled:
                state = BillState.CANCELLED if is_back else BillState.CANCELING
            case _:
                state, reason = BillState.FAIL, "OVERDUE_CLOSE"
        return Bill(
            order=order, state=state, created_at_ms=created_at_ms, updated_at_ms=updated_at_ms, fail_reason=reason
        )
