"""What gethbinfo tells, from the asking to the refund."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from engine.engine import Engine
from engine.settings import Settings
from engine.wechatpay.finishing import finish_orders
from engine.wechatpay.orders import OrderKind, OrderState
from engine.wechatpay.querying import PacketStatus, PaymentStatus
from engine.wechatpay.refusals import Code, RefusalError
from tests.support.scenes import caught_up, persisting, settled, sweeping
from tests.support.waiting import wait_until
from tests.support.wechatpay import APPID, MCH_ID, OPENID, SHOP, asked_for, merchant_of, with_sealing

USER = f"{APPID}:{OPENID}"


@asynccontextmanager
async def opened(settings: Settings, money_fen: int = 10_000, **values: object) -> AsyncIterator[Engine]:
    async with Engine.open(with_sealing(settings, **values)) as engine:
        await merchant_of(engine, money_fen)
        yield engine


async def status(engine: Engine, number: str = "b1") -> PacketStatus:
    return (await engine.wechatpay_querying.packet(MCH_ID, number)).status


async def test_a_packet_that_nobody_claims_goes_back(settings: Settings) -> None:
    async with opened(settings, wechatpay_ttl_s=1) as engine:
        order, _ = await engine.wechatpay_sending.send(asked_for())
        assert await status(engine) is PacketStatus.SENT
        packet_id = order.packet_id or ""

        async def is_over() -> bool:
            return await status(engine) is PacketStatus.RFUND_ING

        await wait_until(is_over, timeout_s=10, what="the packet's being over")
        async with persisting(engine.settings), sweeping(engine.settings):
            await settled(engine, packet_id)
        found = await engine.wechatpay_querying.packet(MCH_ID, "b1")
        assert (found.status, found.refund_fen, found.received) == (PacketStatus.REFUND, 100, ())
        assert found.refund_at_ms is not None
        assert (await engine.wallets.get(SHOP)).balance_fen == 10_000


async def test_a_group_packet_of_which_some_is_claimed(settings: Settings) -> None:
    async with opened(settings, wechatpay_ttl_s=1) as engine:
        order, _ = await engine.wechatpay_sending.send(asked_for(amount_fen=900, kind=OrderKind.GROUP, count=3))
        packet_id = order.packet_id or ""
        assert (await engine.claims.claim(packet_id, "bob")).amount_fen > 0
        first = (await engine.claims.claim(packet_id, USER)).amount_fen
        found = await engine.wechatpay_querying.packet(MCH_ID, "b1")
        assert found.status is PacketStatus.SENT
        assert [share.openid for share in found.received] == ["bob", OPENID]
        assert found.received[1].amount_fen == first
        async with persisting(engine.settings), sweeping(engine.settings):
            await settled(engine, packet_id)
        after = await engine.wechatpay_querying.packet(MCH_ID, "b1")
        assert (after.status, after.received) == (PacketStatus.REFUND, found.received)
        assert after.refund_fen == 900 - sum(share.amount_fen for share in found.received)


async def test_a_packet_that_is_claimed(settings: Settings) -> None:
    async with opened(settings) as engine, persisting(engine.settings):
        order, _ = await engine.wechatpay_sending.send(asked_for())
        await engine.claims.claim(order.packet_id or "", USER)
        assert await status(engine) is PacketStatus.RECEIVED
        await caught_up(engine)
        assert await status(engine) is PacketStatus.RECEIVED


async def test_a_packet_is_for_its_user_alone(settings: Settings) -> None:
    from engine.errors import NotInvitedError

    async with opened(settings) as engine:
        order, _ = await engine.wechatpay_sending.send(asked_for())
        for other in (OPENID, "bob", f"wx1:{OPENID}"):
            with pytest.raises(NotInvitedError):
                await engine.claims.claim(order.packet_id or "", other)


async def test_asking_finishes_what_a_crash_has_left(settings: Settings) -> None:
    async with opened(settings) as engine:
        order = await engine.wechatpay_orders.admit(asked_for())
        assert order.state is OrderState.ASKED
        assert await status(engine) is PacketStatus.SENT
        payment = await engine.wechatpay_orders.admit(asked_for(kind=OrderKind.TRANSFER))
        assert payment.state is OrderState.ASKED
        assert (await engine.wechatpay_querying.payment(MCH_ID, "b1")).status is PaymentStatus.SUCCESS
        assert (await engine.wallets.get(SHOP)).balance_fen == 9_800


async def test_the_loop_finishes_what_a_crash_has_left(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.wechatpay.finishing.AGE_MS", -1_000)
    monkeypatch.setattr("engine.wechatpay.finishing.INTERVAL_S", 0.05)
    monkeypatch.setattr("engine.wechatpay.finishing._PAGE", 2)
    async with opened(settings, 550) as engine:
        for number in range(4):
            await engine.wechatpay_orders.admit(asked_for(f"b{number}"))
        await engine.wechatpay_orders.admit(asked_for("t1", kind=OrderKind.TRANSFER))
        await engine.wechatpay_orders.admit(asked_for("b9"))

        async def are_finished() -> bool:
            return not await engine.wechatpay_orders.unfinished(0, 2**60, 10)

        async with sweeping(engine.settings):
            await wait_until(are_finished, timeout_s=20, what="the orders' end")
        found = [await status(engine, f"b{number}") for number in (0, 1, 2, 3)]
        assert found == [PacketStatus.SENT] * 4
        assert (await engine.wechatpay_querying.payment(MCH_ID, "t1")).status is PaymentStatus.SUCCESS
        last = await engine.wechatpay_orders.find(MCH_ID, "redpack", "b9")
        assert last is not None
        assert (last.state, last.err_code) == (OrderState.REFUSED, "NOTENOUGH")
        assert await status(engine, "b9") is PacketStatus.FAILED
        assert await finish_orders(engine.wechatpay_orders, engine.wechatpay_sending) == 0
        assert (await engine.wallets.get(SHOP)).balance_fen == 50


async def test_what_is_refused_meanwhile_is_not_paid(settings: Settings) -> None:
    """A slow request holds an order that another one was told is refused."""
    async with opened(settings) as engine:
        order = await engine.wechatpay_orders.admit(asked_for())
        await engine.wechatpay_orders.refuse(order, RefusalError(Code.NOTENOUGH))
        with pytest.raises(RefusalError) as raised:
            await engine.wechatpay_sending.finish(order)
        assert raised.value.err_code is Code.PROCESSING
        assert (await engine.wallets.get(SHOP)).balance_fen == 10_000
        again, was_known = await engine.wechatpay_sending.send(asked_for())
        assert (again.state, was_known) == (OrderState.PAID, False)
        await engine.wechatpay_orders.refuse(order, RefusalError(Code.NOTENOUGH))
        assert await status(engine) is PacketStatus.SENT


async def test_a_number_is_good_for_ever(settings: Settings) -> None:
    """Idempotency-Keys are forgotten; a merchant's numbers are not."""
    async with opened(settings) as engine:
        first, _ = await engine.wechatpay_sending.send(asked_for())
        await engine.pool.execute("DELETE FROM idempotency")
        again, was_known = await engine.wechatpay_sending.send(asked_for())
        assert (again.packet_id, was_known) == (first.packet_id, True)
        assert (await engine.wallets.get(SHOP)).balance_fen == 9_900


async def test_packets_of_another_merchant_are_not_found(settings: Settings) -> None:
    async with opened(settings) as engine:
        await engine.wechatpay_sending.send(asked_for())
        with pytest.raises(RefusalError) as raised:
            await engine.wechatpay_querying.packet("1900000110", "b1")
        assert raised.value.err_code is Code.NOT_FOUND
