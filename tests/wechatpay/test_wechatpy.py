"""wechatpy, as it is on PyPI, against a real server: only its base URL is set."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from engine.engine import Engine
from engine.settings import Settings
from tests.support.front import Client, serving
from tests.support.scenes import caught_up, persisting
from tests.support.wechatpay import APPID, MCH_ID, OPENID, SHOP, merchant_of, with_sealing

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wechatpy")
USER = f"{APPID}:{OPENID}"
TEXTS = {"send_name": "天虹百货", "act_name": "猜灯谜", "wishing": "恭喜发财，<大吉>&大利", "remark": "快来抢"}
IP = "192.0.2.1"


@asynccontextmanager
async def opened(settings: Settings, **terms: Any) -> AsyncIterator[tuple[Any, Client, Engine]]:  # noqa: ANN401
    """wechatpy's client of a merchant with 100.00 yuan."""
    from wechatpy.pay import WeChatPay

    async with Engine.open(settings) as engine, serving(settings) as (client, _):
        kept = await merchant_of(engine, money_fen=10_000, **terms)
        pay = WeChatPay(APPID, kept.v2_key, MCH_ID)
        pay.API_BASE_URL = f"{client.http.base_url}/".replace("//", "/").replace(":/", "://")
        yield pay, client, engine


async def refused(call: Any, *words: Any, **named: Any) -> tuple[str, str]:  # noqa: ANN401  # wechatpy has no types
    from wechatpy.exceptions import WeChatPayException

    with pytest.raises(WeChatPayException) as raised:
        await asyncio.to_thread(call, *words, **named)
    return raised.value.return_code, raised.value.errcode


async def test_a_packet_is_sent_claimed_and_found(settings: Settings) -> None:
    async with opened(with_sealing(settings)) as (pay, client, engine), persisting(engine.settings):
        sent = await asyncio.to_thread(pay.redpack.send, OPENID, 150, client_ip=IP, out_trade_no="bill1", **TEXTS)
        assert (sent["mch_billno"], sent["re_openid"], sent["total_amount"]) == ("bill1", OPENID, "150")
        found = await asyncio.to_thread(pay.redpack.query, "bill1")
        assert (found["status"], found["hb_type"], found["total_amount"], found["wishing"]) == (
            *("SENT", "NORMAL", "150"),
            TEXTS["wishing"],
        )
        claimed = await client.claim(sent["send_listid"], USER)
        assert (claimed["outcome"], claimed["amount_fen"]) == ("claimed", 150)
        found = await asyncio.to_thread(pay.redpack.query, "bill1")
        assert (found["status"], found["detail_id"]) == ("RECEIVED", sent["send_listid"])
        share = found["hblist"]["hbinfo"]
        assert (share["openid"], share["amount"]) == (OPENID, "150")
        await caught_up(engine)
        assert (await engine.wallets.get(USER)).balance_fen == 150


async def test_the_same_number_again(settings: Settings) -> None:
    async with opened(with_sealing(settings)) as (pay, _, engine):
        first = await asyncio.to_thread(pay.redpack.send, OPENID, 150, client_ip=IP, out_trade_no="bill1", **TEXTS)
        again = await asyncio.to_thread(pay.redpack.send, OPENID, 150, client_ip=IP, out_trade_no="bill1", **TEXTS)
        assert again == first
        other = await refused(pay.redpack.send, OPENID, 151, client_ip=IP, out_trade_no="bill1", **TEXTS)
        assert other == ("SUCCESS", "FATAL_ERROR")
        assert (await engine.wallets.get(SHOP)).balance_fen == 9_850


async def test_a_wrong_key(settings: Settings) -> None:
    async with opened(with_sealing(settings)) as (pay, _, engine):
        pay.api_key = "x" * 32
        assert await refused(pay.redpack.send, OPENID, 150, client_ip=IP, **TEXTS) == ("FAIL", "SIGN_ERROR")
        assert (await engine.wallets.get(SHOP)).balance_fen == 10_000


async def test_too_little_money(settings: Settings) -> None:
    async with opened(with_sealing(settings)) as (pay, client, _):
        sending = {"client_ip": IP, "out_trade_no": "bill1", **TEXTS}
        assert await refused(pay.redpack.send, OPENID, 10_100, **sending) == ("SUCCESS", "NOTENOUGH")
        found = await asyncio.to_thread(pay.redpack.query, "bill1")
        assert found["status"] == "FAILED"
        await client.deposit(SHOP, 100)
        sent = await asyncio.to_thread(pay.redpack.send, OPENID, 10_100, **sending)
        assert sent["total_amount"] == "10100"


async def test_a_group_packet_is_open_to_all_and_its_answer_is_signed(settings: Settings) -> None:
    async with opened(with_sealing(settings)) as (pay, client, _):
        sending = {"client_ip": IP, "out_trade_no": "bill1", **TEXTS}
        sent = await asyncio.to_thread(pay.redpack.send_group, OPENID, 900, total_num=3, **sending)
        assert pay.check_signature(sent)
        for user in (USER, f"{APPID}:o2", "bob"):
            assert (await client.claim(sent["send_listid"], user))["outcome"] == "claimed"
        found = await asyncio.to_thread(pay.redpack.query, "bill1")
        shares = found["hblist"]["hbinfo"]
        assert (found["status"], found["hb_type"], found["total_num"]) == ("RECEIVED", "GROUP", "3")
        assert [share["openid"] for share in shares] == [OPENID, "o2", "bob"]
        assert sum(int(share["amount"]) for share in shares) == 900


async def test_a_payment_to_change_arrives_at_once(settings: Settings) -> None:
    async with opened(with_sealing(settings)) as (pay, _, engine), persisting(engine.settings):
        paying = {"client_ip": IP, "check_name": "NO_CHECK", "out_trade_no": "trade1"}
        paid = await asyncio.to_thread(pay.transfer.transfer, OPENID, 250, "理赔", **paying)
        again = await asyncio.to_thread(pay.transfer.transfer, OPENID, 250, "理赔", **paying)
        assert (paid["partner_trade_no"], again["payment_no"]) == ("trade1", paid["payment_no"])
        found = await asyncio.to_thread(pay.transfer.query, "trade1")
        assert (found["status"], found["payment_amount"], found["desc"]) == ("SUCCESS", "250", "理赔")
        await caught_up(engine)
        assert (await engine.wallets.get(USER)).balance_fen == 250
        assert await refused(pay.transfer.query, "trade2") == ("SUCCESS", "NOT_FOUND")
