"""A process is killed between each two steps of a sending. Whoever goes on, the user is paid exactly once."""

from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import pytest

from engine.auditing.audit import audit
from engine.engine import Engine
from engine.settings import Settings
from engine.wechatpay import keys
from engine.wechatpay.bills import BillState
from engine.wechatpay.finishing import finish_orders
from engine.wechatpay.merchants import Merchants
from engine.wechatpay.orders import Asked, OrderKind, OrderState
from engine.wechatpay.querying import PacketStatus, PaymentStatus
from engine.wechatpay.refusals import RefusalError
from tests.support.scenes import assert_books_balance, caught_up, fund, persisting, sweeping
from tests.support.waiting import wait_until
from tests.support.warm import warm
from tests.support.wechatpay import APPID, OPENID, SHOP, asked_for, with_sealing

pytestmark = pytest.mark.long
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
step, kind, (mch_id, account, openid) = sys.argv[2], OrderKind(sys.argv[3]), sys.argv[4:]
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
        await engine.wechatpay_sending.send(asked_for(kind=kind, mch_id=mch_id, account=account, openid=openid))

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


@dataclass(frozen=True, slots=True)
class Case:
    """A sending that is cut off at a step: of a merchant, a shop and a user of its own."""

    place: int
    step: str
    kind: OrderKind

    @property
    def mch_id(self) -> str:
        return f"19000001{self.place:02}"

    @property
    def shop(self) -> str:
        return f"{SHOP}-{self.place}"

    @property
    def openid(self) -> str:
        return f"{OPENID[:-2]}{self.place:02}"

    @property
    def user(self) -> str:
        return f"{APPID}:{self.openid}"

    @property
    def asked(self) -> Asked:
        return asked_for(kind=self.kind, mch_id=self.mch_id, account=self.shop, openid=self.openid)

    def __str__(self) -> str:
        return f"{self.step} {self.kind.value}"


CASES = [Case(place, step, kind) for place, (step, kind) in enumerate([*STEPS, *JOINT_STEPS])]


async def cut_off(engine: Engine, case: Case) -> None:
    """Begin the sending in a process that is killed at the step, and look at what it left."""
    merchants = Merchants(engine.pool, keys.load(engine.settings))
    await fund(engine, case.shop, 1_000)
    await merchants.put(case.mch_id, case.shop, appids=[APPID])
    words = (case.step, case.kind.value, case.mch_id, case.shop, case.openid)
    process = warm().start(SEND, engine.settings.model_dump_json(), *words)
    assert process.join() == -9, (str(case), process.said())
    before = await engine.wechatpay_orders.find(case.mch_id, case.asked.api, "b1")
    if case.step in UNWRITTEN:
        assert before is None, str(case)
        assert await packets_of(engine, case) == 0, str(case)
        await engine.wechatpay_sending.send(case.asked)  # nobody but the merchant knows of it
    else:
        assert before is not None, str(case)
        is_unpaid = case.step in ("asked", "paying")
        assert before.state is (OrderState.ASKED if is_unpaid else OrderState.PAID), str(case)


async def packets_of(engine: Engine, case: Case) -> int:
    """How many the shop has paid for."""
    return int(await engine.pool.fetchval("SELECT count(*) FROM packets WHERE sender = $1", case.shop))


async def is_there(engine: Engine, case: Case) -> bool:
    """Ask about the sending as its merchant does, which goes on with it; whether it has come as far as it can."""
    querying = engine.wechatpay_querying
    if case.kind is OrderKind.TRANSFER:
        return (await querying.payment(case.mch_id, "b1")).status is PaymentStatus.SUCCESS
    if case.kind is OrderKind.BILL:
        return (await engine.wechatpay_bills.by_number(case.mch_id, "b1")).state is BillState.WAIT_USER_CONFIRM
    return (await querying.packet(case.mch_id, "b1")).status is PacketStatus.SENT


async def go_on(engine: Engine, by: str) -> None:
    """Have every sending that was cut off go on, each in the way that is named."""
    sending = engine.wechatpay_sending
    if by == "loop":
        assert len(CASES) < 100, "more than a page"
        assert await finish_orders(engine.wechatpay_orders, sending) == 0
    for case in CASES:
        if by == "repeat":
            with suppress(RefusalError):  # a payment that is not open yet goes on by itself
                await sending.send(case.asked)
        elif by == "question":
            await is_there(engine, case)


async def received(engine: Engine, case: Case) -> None:
    """Wait for the sending's end, claim what is to be claimed, and ask for the same once more."""
    await wait_until(partial(is_there, engine, case), timeout_s=20, what=f"the sending's end ({case})")
    if case.kind is not OrderKind.TRANSFER:
        found = await engine.wechatpay_orders.find(case.mch_id, case.asked.api, "b1")
        assert found is not None, str(case)
        await engine.claims.claim(found.packet_id or "", case.user)
    await engine.wechatpay_sending.send(case.asked)


@pytest.mark.parametrize("by", ["repeat", "question", "loop"])
async def test_a_sending_is_finished(settings: Settings, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All cases on one installation: none has to do with another's merchant, shop or user."""
    monkeypatch.setattr("engine.wechatpay.finishing.AGE_MS", -1_000)
    settings = with_sealing(settings)
    async with Engine.open(settings) as engine:
        for case in CASES:
            await cut_off(engine, case)
        await go_on(engine, by)
        async with persisting(settings), sweeping(settings):  # a paid packet is opened by the publisher
            for case in CASES:
                await received(engine, case)
            await caught_up(engine)
        for case in CASES:
            assert await packets_of(engine, case) == 1, str(case)
            assert (await engine.wallets.get(case.shop)).balance_fen == 900, str(case)
            assert (await engine.wallets.get(case.user)).balance_fen == 100, str(case)
        assert await engine.pool.fetchval("SELECT count(*) FROM packets") == len(CASES)
        await assert_books_balance(engine.pool)
        assert all(finding.holds for finding in await audit(engine.pool, engine.store, engine.stream))
