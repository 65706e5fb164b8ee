"""The processes beside the API: the persister, and the sweeper with the publisher. Each runs until a stop."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from engine.auditing.day_movements import follow_movements
from engine.auditing.heavy import follow_reconciliation
from engine.auditing.runs import Runs
from engine.campaigns.campaigns import follow_campaigns
from engine.cards.drawing import follow_card_sets
from engine.coupons.expiring import follow_coupons
from engine.disputes.deciding import follow_disputes
from engine.engine import Engine
from engine.fundraising.settling import follow_fundraisers
from engine.ledger import idempotency, volumes
from engine.loops import end, every
from engine.observability import metrics
from engine.packets.opening import publish
from engine.packets.sweeper import sweep
from engine.persisting.persister import persist
from engine.risk import limits_reached
from engine.risk.freezes import follow_freezes
from engine.risk.receiving import follow_received
from engine.running import metrics_port
from engine.settings import Settings
from engine.wallets.paying_out import pay_out
from engine.wallets.payouts import provider_of
from engine.wechatpay.finishing import follow_wechatpay
from engine.wechatpay.telling import Telling, follow_notices

FORGET_S = 60.0
"""How often it looks for Idempotency-Keys and limits that are too old."""
VOLUME_S = 10.0
"""How often it looks whether the ledger's last volume is full."""


class Share(NamedTuple):
    """Which of several persisters one is: number 1 of 3 follows lanes 0, 3, 6 and so on."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Read "1/3". Raises ValueError."""
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise ValueError("write it as 1/3, 2/3 or 3/3: which persister of how many")
        return cls(int(number), int(of))

    def lanes(self, lanes: Sequence[int]) -> list[int]:
        """This persister's lanes."""
        return [lane for lane in lanes if lane % self.of == self.number - 1]


async def run_persister(
    settings: Settings,
    stop: asyncio.Event,
    ready: Callable[[], None] | None = None,
    share: Share = Share(1, 1),  # noqa: B008  # it cannot be changed
) -> None:
    """Call ``ready``, then follow the lanes of a share until ``stop``. Then apply what is left and return."""
    async with Engine.open(settings) as engine, metrics_port.shown(settings):
        await engine.refuse_proxies()
        metrics.PROCESS_STARTS.labels("persist").inc()
        if ready is not None:
            ready()
        await persist(settings, engine.store, engine.stream, share.lanes(engine.lanes), stop)


async def run_sweeper(settings: Settings, stop: asyncio.Event, ready: Callable[[], None] | None = None) -> None:
    """Call ``ready``, then do all of the sweeper's work until ``stop``. docs/operations.md has the list."""
    async with Engine.open(settings) as engine, metrics_port.shown(settings):
        # Before the group of tasks, which would wrap the error.
        await engine.refuse_proxies()
        metrics.PROCESS_STARTS.labels("sweep").inc()
        async with asyncio.TaskGroup() as group:
            group.create_task(sweep(engine.store, settings, engine.lanes, stop))
            group.create_task(publish(engine.pool, engine.store, stop))
            group.create_task(follow_freezes(engine.pool, engine.store, stop))
            group.create_task(follow_received(engine.pool, engine.limits_reached, settings, stop))
            if settings.webhook_url is not None:
                from engine.risk.webhooks import deliver_alerts  # noqa: PLC0415  # its HTTP client is a twentieth of a start

                group.create_task(deliver_alerts(engine.pool, settings, stop))
            group.create_task(follow_disputes(engine.pool, engine.store, settings, stop))
            group.create_task(follow_campaigns(engine.pool, engine.store, stop))
            group.create_task(follow_fundraisers(engine.pool, stop))
            group.create_task(follow_coupons(engine.pool, engine.coupon_batches, stop))
            group.create_task(follow_card_sets(engine.pool, stop))
            orders, wechatpay = engine.wechatpay_orders, engine.wechatpay_sending
            telling = Telling(
                settings=settings,
                orders=orders,
                bills=engine.wechatpay_bills,
                merchants=engine.wechatpay_merchants,
                platform=engine.wechatpay_platform,
            )
            group.create_task(follow_notices(telling, stop))
            group.create_task(follow_wechatpay(orders, wechatpay, engine.wechatpay_transcript, stop))
            group.create_task(forget_keys(engine, stop))
            group.create_task(forget_limits(engine, stop))
            group.create_task(keep_volumes(engine, stop))
            group.create_task(know_entries(engine, stop))
            group.create_task(follow_movements(engine.pool, stop))
            group.create_task(follow_reconciliation(settings, Runs(engine.pool), stop))
            group.create_task(pay_out(engine.pool, provider_of(engine.pool, settings), settings, stop))
            if ready is not None:
                ready()


async def forget_keys(engine: Engine, stop: asyncio.Event) -> None:
    """Forget Idempotency-Keys after the time in the settings, until ``stop`` is set."""

    async def once() -> bool:
        return await idempotency.forget(engine.pool, after_days=engine.settings.idempotency_retention_days)

    await every("idempotency", FORGET_S, stop, once)


async def forget_limits(engine: Engine, stop: asyncio.Event) -> None:
    """Forget limits of days long ago, until ``stop`` is set."""

    async def once() -> bool:
        return await limits_reached.forget(engine.pool)

    await every("limits", FORGET_S, stop, once)


async def keep_volumes(engine: Engine, stop: asyncio.Event) -> None:
    """Begin the ledger's next volume whenever the last is full, and close settled ones, until ``stop`` is set."""

    async def once() -> bool:
        await volumes.begin_next(engine.pool, engine.settings.volume_entries)
        await volumes.close(engine.pool)
        return False

    await every("volumes", VOLUME_S, stop, once)


async def know_entries(engine: Engine, stop: asyncio.Event) -> None:
    """Have Postgres look at the ledger's entries whenever there are many new ones, until ``stop`` is set."""

    async def once() -> bool:
        looking, stopped = asyncio.create_task(volumes.analyze(engine.pool)), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((looking, stopped), return_when=asyncio.FIRST_COMPLETED)
            if looking.done():
                await looking
        finally:  # a look that has not ended is for nothing
            await end(looking)
            stopped.cancel()
        return False

    await every("analysis", VOLUME_S, stop, once)
