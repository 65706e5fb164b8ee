"""A process is killed between each two steps of a sending. Whoever goes on, the user is paid exactly once."""

from contextlib import suppress

import pytest

from engine.auditing.audit import audit
from engine.engine import Engine
from engine.settings import Settings
from engine.wechatpay.bills import BillState
from engine.wechatpay.finishing import finish_orders
from engine.wechatpay.orders import OrderKind, OrderState
from engine.wechatpay.querying import PacketStatus, PaymentStatus
from engine.wechatpay.refusals import RefusalError
from tests.support.scenes import assert_books_balance, caught_up, persisting, sweeping
from tests.support.waiting import wait_until
from tests.support.warm import warm
from tests.support.wechatpay import APPID, MCH_ID, OPENID, SHOP, asked_for, merchant_of, with_sealing

pytestmark = pytest.mark.long
USER = f"{APPID}:{OPENID}"
SEND = """
import asyncio, os, signal, sys
import uvloop
from engine.engine import Engine
from engine.packets.sending import Packets
from engine.settings import Settings
from engine.packets import joint
from engine.wechatpay import joining, sending
from engine.wechatpay.orders import OrderKind, Orders
from tests.support.wechatpay import asked_for

async def die(*_args, **_kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

async def die_in_transaction(connection, order, packet_id):
    await noted(connection, order, packet_id)
    await die()

async def send_and_die(*args, **named):
    await sent(*args, **named)
    await die()

async def go_apart(*_args):
    return None

def and_die(work):
    async def work_and_die(*args, **named):
        await work(*args, **named)
        await die()
    return work_and_die

noted, sent = sending.note_paid, Packets.send
step, kind = sys.argv[2], OrderKind(sys.argv[3])
if not step.startswith("joint"): joining.Joining.send = go_apart
if step == "joint written": joining._written = and_die(joining._written)
if step == "joint counted": joining.count_sendings = and_die(joining.count_sendings)
if step == "joint paying": joint.pay = and_die(joint.pay)
if step == "joint paid": joining.Joining._finish = die
if step == "joint opened": joint.open_all = and_die(joint.open_all)
if step == "joint giving": sending.Sending._give = die
if step == "joint given": Orders.note_given = die
if step == "asked": sending.Sending.finish = die
if step == "paying": sending.note_paid = die_in_transaction
if step == "paid": Packets._open = die
if step == "opened": Packets.send = send_and_die
if step == "giving": sending.Sending._give = die
if step == "given": Orders.note_given = die

async def main():
    async with Engine.open(Settings.model_validate_json(sys.argv[1])) as engine:
        await engine.wechatpay_sending.send(asked_for(kind=kind))

uvloop.run(main())
"""
STEPS = [
    *((step, OrderKind.NORMAL) for step in ("asked", "paying", "paid", "opened")),
    *((step, OrderKind.BILL) for step in ("asked", "paying", "paid", "opened")),
    *((step, OrderKind.TRANSFER) for step in ("asked", "paying", "paid", "opened", "giving", "given")),
]
UNWRITTEN = ("joint written", "joint counted", "joint paying")
"""Steps of a sending that goes together with others. These leave nothing: it is one transaction."""
JOINT_STEPS = [
    *((step, OrderKind.NORMAL) for step in (*UNWRITTEN, "joint paid", "joint opened")),
    *((step, OrderKind.BILL) for step in ("joint paying", "joint paid")),
    *((step, OrderKind.TRANSFER) for step in ("joint paying", "joint paid", "joint giving", "joint given")),
]


@pytest.mark.parametrize("by", ["repeat", "question", "loop"])
@pytest.mark.parametrize(("step", "kind"), [*STEPS, *JOINT_STEPS])
async def test_a_sending_is_finished(
    settings: Settings, step: str, kind: OrderKind, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.wechatpay.finishing.AGE_MS", -1_000)
    settings = with_sealing(settings)
    async with Engine.open(settings) as engine:
        await merchant_of(engine, 1_000)
        process = warm().start(SEND, settings.model_dump_json(), step, kind.value)
        assert process.join() == -9, process.said()
        sending, querying, orders = engine.wechatpay_sending, engine.wechatpay_querying, engine.wechatpay_orders
        before = await orders.find(MCH_ID, asked_for(kind=kind).api, "b1")
        if step in UNWRITTEN:
            assert before is None
            assert await engine.pool.fetchval("SELECT count(*) FROM packets") == 0
            await sending.send(asked_for(kind=kind))  # nobody but the merchant knows of it
        else:
            assert before is not None
            is_unpaid = step in ("asked", "paying")
            assert before.state is (OrderState.ASKED if is_unpaid else OrderState.PAID)
        if by == "repeat":
            with suppress(RefusalError):  # a payment that is not open yet goes on by itself
                await sending.send(asked_for(kind=kind))
        elif by == "loop":
            assert await finish_orders(orders, sending) == 0
        async with persisting(settings), sweeping(settings):  # a paid packet is opened by the publisher

            async def is_there() -> bool:
                if kind is OrderKind.TRANSFER:
                    return (await querying.payment(MCH_ID, "b1")).status is PaymentStatus.SUCCESS
                if kind is OrderKind.BILL:
                    return (await engine.wechatpay_bills.by_number(MCH_ID, "b1")).state is BillState.WAIT_USER_CONFIRM
                return (await querying.packet(MCH_ID, "b1")).status is PacketStatus.SENT

            await wait_until(is_there, timeout_s=20, what="the sending's end")
            if kind is not OrderKind.TRANSFER:
                found = await orders.find(MCH_ID, asked_for(kind=kind).api, "b1")
                assert found is not None
                await engine.claims.claim(found.packet_id or "", USER)
            await sending.send(asked_for(kind=kind))
            await caught_up(engine)
        assert await engine.pool.fetchval("SELECT count(*) FROM packets") == 1
        assert (await engine.wallets.get(SHOP)).balance_fen == 900
        assert (await engine.wallets.get(USER)).balance_fen == 100
        await assert_books_balance(engine.pool)
        assert all(finding.holds for finding in await audit(engine.pool, engine.store, engine.stream))
