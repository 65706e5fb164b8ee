"""One process's engine: its clients, its lanes and its use cases."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
from redis.asyncio import Redis

from engine import waiting
from engine.campaigns.campaigns import Campaigns
from engine.campaigns.ended import Ended
from engine.campaigns.grabbing import Grabbing
from engine.campaigns.register import Register
from engine.campaigns.views import CampaignViews
from engine.campaigns.wins import Wins
from engine.cards.collecting import Collecting
from engine.cards.offers import Offers
from engine.cards.prizes import Prizes
from engine.cards.register import Register as CardRegister
from engine.cards.sets import CardSets
from engine.cards.views import CardViews
from engine.claiming.acks import Acks
from engine.claiming.batcher import Batcher
from engine.claiming.checkpoints import Checkpoints
from engine.claiming.claims import Claims
from engine.connected import Connected, urls_of
from engine.coupons import keys as coupon_keys
from engine.coupons.batches import Batches
from engine.coupons.ending import CouponActs
from engine.coupons.given import GivenCoupons
from engine.disputes.deciding import DisputeDecisions
from engine.disputes.filing import Disputes
from engine.errors import OperatorError
from engine.fundraising.fundraisers import Fundraisers
from engine.fundraising.giving import Giving
from engine.fundraising.matching import Matching
from engine.fundraising.receipts import GiftReceipts
from engine.fundraising.views import FundraiserViews
from engine.lanes import proxies
from engine.lanes.store import Store
from engine.lanes.stream import EventStream
from engine.lanes.topology import Topology
from engine.lanes.trial import Trial, try_scripts_at_start
from engine.ledger import currency, pooler
from engine.ledger.database import database_pool
from engine.ledger.failures import DATABASE_ERRORS, sentence_of
from engine.ledger.trial import why_not_written
from engine.packets.retraction import Retractions
from engine.packets.sending import Packets
from engine.packets.suggesting import Suggestions
from engine.packets.views import Views
from engine.people.displays import Displays
from engine.persisting import lag
from engine.readiness import Probe, Readiness
from engine.recovery import epochs
from engine.risk.alerts import Alerts
from engine.risk.freezes import Freezes
from engine.risk.limits_reached import LimitsReached
from engine.risk.profiles import Profiles
from engine.settings import Settings
from engine.transfers.delays import Delays
from engine.transfers.transfers import Transfers
from engine.wallets.assets import Assets
from engine.wallets.closing import Closing
from engine.wallets.payment_passwords import PaymentPasswords
from engine.wallets.receipts import Receipts
from engine.wallets.statement import Statements
from engine.wallets.wallets import Wallets
from engine.wallets.withdrawals import Withdrawals
from engine.wechatpay import keys as wechatpay_keys
from engine.wechatpay.bills import Bills as WechatpayBills
from engine.wechatpay.joining import Joining as WechatpayJoining
from engine.wechatpay.merchants import Merchants as WechatpayMerchants
from engine.wechatpay.orders import Orders as WechatpayOrders
from engine.wechatpay.platform import Platform as WechatpayPlatform
from engine.wechatpay.querying import Querying as WechatpayQuerying
from engine.wechatpay.sending import Sending as WechatpaySending
from engine.wechatpay.transcript import Transcript as WechatpayTranscript


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Open with ``async with Engine.open(settings) as engine``. ``lanes``: the lanes in the ledger, in order."""

    settings: Settings
    topology: Topology
    pool: asyncpg.Pool
    store: Store
    stream: EventStream
    trial: Trial
    lanes: tuple[int, ...]
    acks: Acks
    packets: Packets
    claims: Claims
    freezes: Freezes
    limits_reached: LimitsReached
    receipts: Receipts
    disputes: Disputes
    dispute_decisions: DisputeDecisions
    retractions: Retractions
    transfers: Transfers
    delays: Delays
    views: Views
    displays: Displays
    assets: Assets
    campaigns: Campaigns
    campaign_views: CampaignViews
    grabbing: Grabbing
    wins: Wins
    fundraisers: Fundraisers
    giving: Giving
    matching: Matching
    fundraiser_views: FundraiserViews
    gift_receipts: GiftReceipts
    coupon_batches: Batches
    coupons: GivenCoupons
    coupon_acts: CouponActs
    card_sets: CardSets
    card_views: CardViews
    collecting: Collecting
    card_offers: Offers
    card_prizes: Prizes
    wallets: Wallets
    statements: Statements
    suggestions: Suggestions
    profiles: Profiles
    alerts: Alerts
    payment_passwords: PaymentPasswords
    withdrawals: Withdrawals
    wechatpay_merchants: WechatpayMerchants
    wechatpay_orders: WechatpayOrders
    wechatpay_sending: WechatpaySending
    wechatpay_querying: WechatpayQuerying
    wechatpay_bills: WechatpayBills
    wechatpay_platform: WechatpayPlatform
    wechatpay_transcript: WechatpayTranscript

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator["Engine"]:
        """Connect, and close everything at the end. Claims that are in progress are answered first.

        Raises OperatorError if a server does not answer or the database has another schema.
        """
        async with Connected.open(settings, serves=True) as connected, cls._on(connected) as engine:
            yield engine

    @classmethod
    @asynccontextmanager
    async def _on(cls, connected: Connected) -> AsyncIterator["Engine"]:
        settings, pool, topology = connected.settings, connected.pool, connected.topology
        coupon_batches, sealing = Batches(pool, coupon_keys.load(settings)), wechatpay_keys.load(settings)
        urls = urls_of(settings)
        known = epochs.Known()
        store = Store(topology, known.epochs, known.servers, known.paused)
        await _try_servers(topology, pool, urls.database)
        await currency.keep(pool, settings.currency)
        begun = await epochs.begin(pool, store, settings.lanes)
        known.epochs.update(begun.epochs)
        known.servers.update(begun.servers)
        freezes, limits_reached = Freezes(pool, store), LimitsReached(pool, store)
        await freezes.spread()  # a lane that was just begun has none
        await limits_reached.spread()
        full_lanes: set[int] = set()
        checkpoints = Checkpoints(urls.database)
        acks = Acks(settings, topology, checkpoints)
        batchers = {lane: Batcher(store, lane, settings, full_lanes, acks) for lane in known.epochs}
        coupons = GivenCoupons(pool, coupon_batches)
        claims = Claims(pool, store, batchers, full_lanes, acks, coupons)
        payment_passwords = PaymentPasswords(pool, settings)
        # A connection of its own: payments may wait for each other's rows on all of the pool's.
        watching = await database_pool(urls.database, connections_max=1, timeout_s=settings.database_timeout_s)
        watch = epochs.Watch(watching, known, claims.finished.forget, topology)
        store.on_fenced = watch.wake
        watch.start()
        wechatpay_transcript = WechatpayTranscript(pool, settings)
        packets = Packets(pool, store, settings, acks)
        joining = WechatpayJoining(pool, packets, store, settings)
        try:
            register, card_register = Register(pool), CardRegister(pool)
            grabbing = Grabbing(register, claims, Ended(pool), settings.currency)
            delays = Delays(pool, payment_passwords, settings)
            views, orders = Views(pool, store, settings), WechatpayOrders(pool, settings)
            wechatpay_sending = WechatpaySending(orders, packets, claims, store, joining=joining, settings=settings)
            yield cls(
                settings=settings,
                topology=topology,
                pool=pool,
                store=store,
                stream=connected.stream,
                trial=Trial(topology),
                lanes=tuple(known.epochs),
                acks=acks,
                packets=packets,
                claims=claims,
                freezes=freezes,
                limits_reached=limits_reached,
                receipts=Receipts(pool, store),
                disputes=Disputes(pool, store, freezes, settings),
                dispute_decisions=DisputeDecisions(pool, store, freezes),
                retractions=Retractions(pool, store, acks, settings),
                transfers=Transfers(pool, store, packets, claims, acks=acks, delays=delays, settings=settings),
                delays=delays,
                views=views,
                displays=Displays(pool),
                assets=Assets(pool, settings),
                campaigns=Campaigns(pool, store, settings, register),
                campaign_views=CampaignViews(pool, store, settings, register),
                grabbing=grabbing,
                wins=Wins(register, claims, grabbing.ended, store, settings.currency),
                fundraisers=Fundraisers(pool, settings),
                giving=Giving(pool, settings, freezes),
                matching=Matching(pool, settings, freezes),
                fundraiser_views=FundraiserViews(pool),
                gift_receipts=GiftReceipts(pool),
                coupon_batches=coupon_batches,
                coupons=coupons,
                coupon_acts=CouponActs(pool, coupon_batches),
                card_sets=CardSets(pool, settings, freezes),
                card_views=CardViews(pool, card_register),
                collecting=Collecting(pool, card_register),
                card_offers=Offers(pool, card_register),
                card_prizes=Prizes(pool, card_register),
                wallets=Wallets(pool, settings),
                statements=Statements(pool, Closing(pool, store, connected.stream), settings.currency),
                suggestions=Suggestions(pool, settings),
                profiles=Profiles(pool, freezes, limits_reached, settings),
                alerts=Alerts(pool),
                payment_passwords=payment_passwords,
                withdrawals=Withdrawals(pool, settings, payment_passwords, freezes),
                wechatpay_merchants=WechatpayMerchants(pool, sealing),
                wechatpay_platform=WechatpayPlatform(pool, sealing),
                wechatpay_bills=WechatpayBills(orders, wechatpay_sending, views, store),
                wechatpay_orders=orders,
                wechatpay_sending=wechatpay_sending,
                wechatpay_querying=WechatpayQuerying(orders, wechatpay_sending, views),
                wechatpay_transcript=wechatpay_transcript,
            )
        finally:
            await joining.close()
            for batcher in batchers.values():
                await batcher.close()
            await claims.finished.close()
            await grabbing.ended.close()
            await wechatpay_transcript.close()
            await watch.stop()
            watching.terminate()  # it has nothing to wait for, and a server that hangs would be waited for
            await checkpoints.close()

    @property
    def redis(self) -> Redis:
        """The client of the server of lane 0, which is the only server if HONGBAO_REDIS_URL names one."""
        return self.topology.node_of(0).client

    async def refuse_proxies(self) -> None:
        """Raise OperatorError if a server's address leads to several servers by turns. For processes that stay."""
        await proxies.refuse(self.topology)

    async def readiness(self) -> Readiness:
        """Whether this process can do its work, and which lanes do not serve."""
        probe = Probe(
            pool=self.pool,
            store=self.store,
            stream=self.stream,
            trial=self.trial,
            acks=self.acks,
            lanes=self.lanes,
            backlog_max=self.settings.backlog_max,
        )
        return await probe.run()

    async def ready(self) -> list[str]:
        """One sentence per reason why this process cannot do its work. Empty if it is ready."""
        return (await self.readiness()).reasons

    async def lag(self) -> lag.Looked:
        """How far the ledger is behind each lane. Raises UnavailableError if Postgres does not answer."""
        return await lag.look(self.pool, self.store, self.stream)

    async def measure(self) -> None:
        """Set the gauges of the ledger's lag, and of what waits. Raises UnavailableError."""
        try:
            await waiting.measure(self.pool)
        finally:
            await lag.measure(self.pool, self.store, self.stream)


async def _try_servers(topology: Topology, pool: asyncpg.Pool, database_url: str) -> None:
    """Raise OperatorError, with a remedy, if a server would refuse what every process needs."""
    for node in topology.nodes:
        await try_scripts_at_start(node, is_one_of_several=len(topology.nodes) > 1)
    try:
        await pooler.check(database_url, pool)
        why = await why_not_written(pool)
    except DATABASE_ERRORS as error:
        raise OperatorError(sentence_of(error)) from None
    if why is not None:
        raise OperatorError(why)
