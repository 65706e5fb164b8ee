"""The audit names an order of WeChat Pay's calls whose packet is not what it says, and a day that counts too much."""

from collections.abc import AsyncIterator

import pytest

from engine.auditing.audit import audit
from engine.engine import Engine
from engine.settings import Settings
from engine.wechatpay.orders import OrderKind
from tests.support.scenes import caught_up, persisting
from tests.support.wechatpay import APPID, OPENID, asked_for, merchant_of, with_sealing

USER = f"{APPID}:{OPENID}"
CORRUPTIONS = [
    ("UPDATE wechatpay_orders SET amount_fen = 101 WHERE number = 'b1'", "is of 101 fen, but packet"),
    ("UPDATE wechatpay_orders SET amount_fen = 101 WHERE number = 'b1'", "but 1 entries pay 100 fen for packet"),
    (
        "UPDATE wechatpay_orders SET state = 'asked' WHERE number = 'b1'",
        "order b1 of merchant 1900000109 (redpack) is asked",
    ),
    ("UPDATE wechatpay_orders SET account = 'alice' WHERE number = 'b2'", "and alice pays, but packet"),
    (
        "UPDATE wechatpay_orders SET packet_id = CASE number WHEN 'b1' THEN NULL ELSE packet_id END,"
        " state = CASE number WHEN 'b1' THEN 'asked' ELSE state END WHERE number = 'b1';"
        " UPDATE wechatpay_orders SET packet_id = (SELECT packet_id FROM packets WHERE packet_id NOT IN"
        " (SELECT packet_id FROM wechatpay_orders WHERE packet_id IS NOT NULL)) WHERE number = 'b3'",
        "order b3 of merchant 1900000109 (redpack) is paid, and is of 300 fen",
    ),
    ("UPDATE wechatpay_orders SET openid = 'other' WHERE number = 't1'", "is given, but its user has 0 fen of packet"),
    (
        "UPDATE wechatpay_orders SET state = 'refused', err_code = 'SEND_FAILED' WHERE number = 't1'",
        "is refused, but its user has 500 fen of packet",
    ),
    (
        "UPDATE wechatpay_spans SET amount_fen = amount_fen + 1 WHERE span = 'day' AND api = 'redpack'",
        "its orders of the day are 600 fen",
    ),
]


@pytest.fixture
async def scene(settings: Settings) -> AsyncIterator[Engine]:
    """Three packets, one of which is claimed, and a payment."""
    async with Engine.open(with_sealing(settings, wechatpay_merchant_day_fen_max=1_000_000)) as engine:
        await merchant_of(engine)
        async with persisting(engine.settings):
            for number in (1, 2, 3):
                order, _ = await engine.wechatpay_sending.send(asked_for(f"b{number}", amount_fen=number * 100))
            await engine.claims.claim(order.packet_id or "", USER)
            await engine.wechatpay_sending.send(asked_for("t1", amount_fen=500, kind=OrderKind.TRANSFER))
            await caught_up(engine)
        yield engine


async def problems(engine: Engine) -> tuple[str, ...]:
    findings = {finding.invariant: finding for finding in await audit(engine.pool, engine.store, engine.stream)}
    assert findings["orders_have_packets"].examined >= 3
    return findings["orders_have_packets"].problems


async def test_what_is_right_is_no_problem(scene: Engine) -> None:
    assert await problems(scene) == ()


@pytest.mark.parametrize(("corruption", "told"), CORRUPTIONS)
async def test_what_is_made_wrong_is_named(scene: Engine, corruption: str, told: str) -> None:
    await scene.pool.execute(corruption)
    found = await problems(scene)
    assert any(told in problem for problem in found), found
