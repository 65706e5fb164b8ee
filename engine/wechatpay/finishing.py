"""The sweeper's part: orders that a crash has left are finished, and old counts and calls are forgotten."""

import asyncio

from engine.loops import PASSING, every, outlived
from engine.wechatpay.orders import Orders
from engine.wechatpay.refusals import RefusalError
from engine.wechatpay.sending import Sending
from engine.wechatpay.transcript import Transcript

INTERVAL_S = 2.0
AGE_MS = 10_000
"""How old an order must be, so that its own request can finish it first."""
_PAGE = 100


async def finish_orders(orders: Orders, sending: Sending, *, after: int = 0) -> int:
    """Finish some orders. Returns ``after`` of the next page, 0 after the last. Raises UnavailableError."""
    found = await orders.unfinished(after, await orders.clock_ms() - AGE_MS, _PAGE)
    for order in found:
        try:
            await sending.finish(order)
        except RefusalError:  # it is noted, or the order is finished the next time
            continue
        except PASSING as error:
            outlived("wechatpay_order", error, order_id=order.order_id)
    return found[-1].order_id if len(found) == _PAGE else 0


async def follow_wechatpay(orders: Orders, sending: Sending, transcript: Transcript, stop: asyncio.Event) -> None:
    """Finish and forget, again and again until ``stop`` is set. Failures are logged and retried."""
    after = 0

    async def once() -> bool:
        nonlocal after
        after = await finish_orders(orders, sending, after=after)
        if not after:
            await orders.forget_counts(await orders.clock_ms())
            await transcript.forget()
        return after > 0

    await every("wechatpay", INTERVAL_S, stop, once)
