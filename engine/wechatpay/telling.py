"""The sweeper's other part: merchants are told when their bills have ended."""

import asyncio
from dataclasses import dataclass

from engine.loops import end, every
from engine.settings import Settings
from engine.wechatpay.bills import Bills
from engine.wechatpay.merchants import Merchants
from engine.wechatpay.orders import Orders
from engine.wechatpay.platform import Platform

NOTICES_S = 1.0
"""How often it looks for bills that have ended."""
NOTICES_MAX = 20
_LEASE_MS_MORE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """What telling needs."""

    settings: Settings
    orders: Orders
    bills: Bills
    merchants: Merchants
    platform: Platform


async def follow_notices(telling: Telling, stop: asyncio.Event) -> None:
    """Tell merchants of the ends of their bills until ``stop`` is set.

    A stop ends a round in the middle: what was under way is told again.
    """
    orders, lease_ms = telling.orders, int(telling.settings.wechatpay_notice_timeout_s * 1000) + _LEASE_MS_MORE

    async def once() -> bool:
        due = await orders.to_tell(NOTICES_MAX, lease_ms)
        if not due:
            return False
        from engine.wechatpay.notices import Notices  # noqa: PLC0415  # its HTTP client is a twentieth of a start

        work = asyncio.create_task(Notices(telling).deliver(due))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(stopping)
            await end(work)
        return len(due) == NOTICES_MAX

    await every("wechatpay_notices", NOTICES_S, stop, once)
