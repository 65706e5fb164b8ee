"""Tells merchants of the end of their bills: signed by the platform's key, encrypted with the merchant's.

Delivery is at least once, and tried again at WeChat Pay's intervals. Only the status of the answer counts.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence

import httpx
import orjson
import structlog

from engine.loops import PASSING, outlived
from engine.observability.repeats import repeats
from engine.wechatpay.bills import Bill
from engine.wechatpay.merchants import Keyed
from engine.wechatpay.orders import Order
from engine.wechatpay.platform import sealed_for
from engine.wechatpay.telling import Telling
from engine.wechatpay.times import rfc3339

LOG = structlog.get_logger()
WAITS_S = (15, 15, 30, 180, 600, 1_200, 1_800, 1_800, 1_800, 3_600, 10_800, 10_800, 10_800, 21_600, 21_600)
"""The waits after each failed try. After the last one the notice is given up."""
EVENT, KIND = "MCHTRANSFER.BILL.FINISHED", "mch_payment"
_FAILURES = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError)


class NotTakenError(Exception):
    """The merchant's server answered, but not that it has taken the notice."""


class Notices:
    """Delivers notices."""

    def __init__(self, telling: Telling) -> None:
        self._orders, self._bills = telling.orders, telling.bills
        self._merchants, self._platform = telling.merchants, telling.platform
        self._timeout_s = telling.settings.wechatpay_notice_timeout_s

    async def deliver(self, due: Sequence[Order]) -> None:
        """Try the notices of these orders, each once."""
        # No proxies or certificates from the environment: only the settings read that.
        async with httpx.AsyncClient(timeout=self._timeout_s, follow_redirects=False, trust_env=False) as client:
            await asyncio.gather(*(self._try(client, order) for order in due))

    async def _try(self, client: httpx.AsyncClient, order: Order) -> None:
        try:
            try:
                await self._send(client, order)
            except (NotTakenError, *_FAILURES) as error:
                await self._note_failure(order, error)
            else:
                await self._orders.note_told(order, None)
        except PASSING as error:  # it is due again after its lease
            outlived("wechatpay_notices", error, order_id=order.order_id)

    async def _send(self, client: httpx.AsyncClient, order: Order) -> None:
        bill, merchant = await self._bills.of(order), await self._merchants.keyed(order.mch_id)
        body = body_of(bill, merchant)
        at_ms, keys = int(time.time() * 1000), await self._platform.keys()
        key, serial = keys.for_merchant(order.platform_serial or "", at_ms)
        headers = key.headers(body, serial) | {"content-type": "application/json"}
        async with asyncio.timeout(self._timeout_s):
            async with client.stream("POST", order.notify_url or "", content=body, headers=headers) as answer:
                if not answer.is_success:
                    raise NotTakenError(f"it answered {answer.status_code}")

    async def _note_failure(self, order: Order, error: Exception) -> None:
        is_last = order.notice_tries > len(WAITS_S)
        wait_s = None if is_last else WAITS_S[order.notice_tries - 1]
        await self._orders.note_told(order, None if wait_s is None else wait_s * 1000)
        event = "wechatpay_notice_given_up" if is_last else "wechatpay_notice_not_taken"
        if times := repeats.times((event, order.order_id), type(error).__name__):
            LOG.warning(
                event, order_id=order.order_id, tries=order.notice_tries, error=type(error).__name__, times=times
            )


def body_of(bill: Bill, merchant: Keyed) -> bytes:
    """A notice: the bill itself is encrypted."""
    order = bill.order
    found = {
        "mch_id": order.mch_id,
        "out_bill_no": order.number,
        "transfer_bill_no": order.packet_id,
        "state": bill.state.value,
        "transfer_amount": order.amount_fen,
        "openid": order.openid,
        "create_time": rfc3339(bill.created_at_ms),
        "update_time": rfc3339(bill.updated_at_ms),
    }
    if bill.fail_reason is not None:
        found["fail_reason"] = bill.fail_reason
    return orjson.dumps(
        {
            "id": secrets.token_hex(16),
            "create_time": rfc3339(bill.updated_at_ms),
            "resource_type": "encrypt-resource",
            "event_type": EVENT,
            "summary": "商家转账单据终态通知",
            "resource": {"original_type": KIND, **sealed_for(merchant.v3_key, orjson.dumps(found), KIND)},
        }
    )
