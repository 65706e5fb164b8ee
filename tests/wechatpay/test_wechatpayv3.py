"""wechatpayv3, as it is on PyPI, against a real server: only its gateway is set. It verifies answers and notices."""

import asyncio
import http.server
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import pytest

from engine.engine import Engine
from engine.errors import OperatorError
from engine.settings import Settings
from tests.support.front import Client, serving
from tests.support.scenes import caught_up, persisting, sweeping
from tests.support.waiting import wait_until
from tests.support.wechatpay import APPID, MCH_ID, OPENID, SHOP, merchant_of, with_sealing

USER = f"{APPID}:{OPENID}"
TERMS = {"transfer_scene_id": "1000", "openid": OPENID, "transfer_remark": "2020年4月报销"}
INFOS = [{"info_type": "活动名称", "info_content": "注册会员有礼"}]


class Taken(NamedTuple):
    """What a merchant's server was told."""

    headers: dict[str, str]
    body: bytes


class Scene(NamedTuple):
    """wechatpayv3's client of a merchant with 1,000.00 yuan, and what is behind it."""

    pay: Any
    client: Client
    engine: Engine

    async def send(self, number: str, amount_fen: int = 100, **more: object) -> tuple[int, Any]:
        return await self.call("mch_transfer_bills", number, transfer_amount=amount_fen, **(TERMS | more))

    async def call(self, name: str, *words: object, **named: object) -> tuple[int, Any]:
        status, text = await asyncio.to_thread(getattr(self.pay, name), *words, **named)
        return status, json.loads(text)

    async def state(self, number: str) -> str:
        _, found = await self.call("mch_transfer_bills_query", number)
        return str(found["state"])


@asynccontextmanager
async def opened(settings: Settings, *, by_certificate: bool = False, **values: object) -> AsyncIterator[Scene]:
    from wechatpayv3 import WeChatPay, WeChatPayType
    from wechatpayv3.core import Core

    settings = with_sealing(settings, **values)
    async with Engine.open(settings) as engine, serving(settings) as (client, _):
        kept = await merchant_of(engine, 100_000)
        pair = await engine.wechatpay_merchants.renew_key(MCH_ID, "rsa")
        key = await engine.wechatpay_platform.key()
        gateway = str(client.http.base_url).rstrip("/")
        named = {} if by_certificate else {"public_key": key.public_key, "public_key_id": key.public_key_id}

        class Here(Core):  # type: ignore[misc]
            """The client's core, which has its gateway in an attribute that its constructor sets and uses."""

            def __setattr__(self, name: str, value: object) -> None:
                super().__setattr__(name, gateway if name == "_gate_way" else value)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("wechatpayv3.core.Core", Here)
            pay = await asyncio.to_thread(
                WeChatPay,
                wechatpay_type=WeChatPayType.JSAPI,
                mchid=MCH_ID,
                private_key=pair.rsa_key,
                cert_serial_no=pair.merchant.serial_no,
                appid=APPID,
                apiv3_key=kept.v3_key,
                **named,
            )
        yield Scene(pay, client, engine)


@contextmanager
def merchants_server(refusals: int = 0) -> Iterator[tuple[str, list[Taken]]]:
    """A merchant's server, which refuses so many notices before it takes one; its URL, and what it was told."""
    taken: list[Taken] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            taken.append(Taken(dict(self.headers.items()), body))
            self.send_response(500 if len(taken) <= refusals else 204)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/notice", taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("by_certificate", [False, True], ids=["public key", "certificate"])
async def test_a_bill_is_sent_confirmed_and_found(settings: Settings, by_certificate: bool) -> None:
    async with opened(settings, by_certificate=by_certificate) as scene, persisting(scene.engine.settings):
        status, sent = await scene.send("bill1", 150, transfer_scene_report_infos=INFOS)
        assert (status, sent["state"], sent["out_bill_no"]) == (200, "WAIT_USER_CONFIRM", "bill1"), sent
        _, found = await scene.call("mch_transfer_bills_query", transfer_bill_no=sent["transfer_bill_no"])
        assert (found["state"], found["transfer_amount"], found["openid"]) == ("WAIT_USER_CONFIRM", 150, OPENID)
        claimed = await scene.client.claim(sent["transfer_bill_no"], USER)
        assert claimed["amount_fen"] == 150
        assert await scene.state("bill1") == "SUCCESS"
        await caught_up(scene.engine)
        assert (await scene.engine.wallets.get(USER)).balance_fen == 150
        status, refused = await scene.call("mch_transfer_bills_cancel", "bill1")
        assert (status, refused["code"]) == (400, "INVALID_REQUEST")


async def test_the_same_number_again(settings: Settings) -> None:
    async with opened(settings) as scene:
        _, first = await scene.send("bill1")
        _, again = await scene.send("bill1")
        assert again == first
        status, other = await scene.send("bill1", 101)
        assert (status, other["code"]) == (400, "ALREADY_EXISTS")
        status, poor = await scene.send("bill2", 100_000)
        assert (status, poor["code"]) == (403, "NOT_ENOUGH")
        assert (await scene.engine.wallets.get(SHOP)).balance_fen == 99_900
        status, unknown = await scene.call("mch_transfer_bills_query", "bill9")
        assert (status, unknown["code"]) == (404, "NOT_FOUND")


async def test_a_bill_is_cancelled(settings: Settings) -> None:
    async with opened(settings) as scene, persisting(scene.engine.settings):
        _, sent = await scene.send("bill1")
        status, cancelled = await scene.call("mch_transfer_bills_cancel", "bill1")
        assert status == 200
        assert cancelled["state"] in ("CANCELING", "CANCELLED")

        async def is_back() -> bool:
            return await scene.state("bill1") == "CANCELLED"

        await wait_until(is_back, timeout_s=10, what="the money's being back")
        status, again = await scene.call("mch_transfer_bills_cancel", "bill1")
        assert (status, again["state"]) == (200, "CANCELLED")
        answer = await scene.client.http.post(
            f"/v1/packets/{sent['transfer_bill_no']}/claims", headers=scene.client.as_user(USER)
        )
        assert answer.json()["outcome"] == "expired"
        assert (await scene.engine.wallets.get(SHOP)).balance_fen == 100_000


async def test_a_bill_that_nobody_confirms_fails(settings: Settings) -> None:
    async with opened(settings, wechatpay_bill_ttl_s=1) as scene:
        await scene.send("bill1")

        async def is_over() -> bool:
            return await scene.state("bill1") == "FAIL"

        await wait_until(is_over, timeout_s=10, what="the bill's being over")
        _, found = await scene.call("mch_transfer_bills_query", "bill1")
        assert found["fail_reason"] == "OVERDUE_CLOSE"


@pytest.mark.long
@pytest.mark.parametrize("by_certificate", [False, True], ids=["public key", "certificate"])
async def test_the_end_is_told(settings: Settings, by_certificate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.wechatpay.telling.NOTICES_S", 0.05)
    monkeypatch.setattr("engine.wechatpay.notices.WAITS_S", (0.01, 0.01, 60))
    with merchants_server(refusals=2) as (url, taken):
        async with opened(settings, by_certificate=by_certificate) as scene:
            _, sent = await scene.send("bill1", notify_url=url)
            await scene.client.claim(sent["transfer_bill_no"], USER)
            async with persisting(scene.engine.settings), sweeping(scene.engine.settings):
                await wait_until(lambda: len(taken) == 3, timeout_s=20, what="the notices")

                async def is_done() -> bool:
                    order = await scene.engine.wechatpay_orders.find(MCH_ID, "bill", "bill1")
                    return order is not None and order.notice_due_at_ms is None

                await wait_until(is_done, timeout_s=20, what="the last notice's being noted")
            assert len(taken) == 3
            for notice in taken:
                found = await asyncio.to_thread(scene.pay.callback, notice.headers, notice.body)
                assert found["event_type"] == "MCHTRANSFER.BILL.FINISHED"
                told = found["resource"]
                assert (told["out_bill_no"], told["state"], told["transfer_amount"]) == ("bill1", "SUCCESS", 100)
                assert told["transfer_bill_no"] == sent["transfer_bill_no"]
            forged = taken[0].body.replace(b"FINISHED", b"FINISHEX")
            assert await asyncio.to_thread(scene.pay.callback, taken[0].headers, forged) is None


@pytest.mark.long
async def test_a_server_that_never_takes_it_is_given_up(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.wechatpay.telling.NOTICES_S", 0.05)
    monkeypatch.setattr("engine.wechatpay.notices.WAITS_S", (0.01, 0.01))
    with merchants_server(refusals=99) as (url, taken):
        async with opened(settings, wechatpay_bill_ttl_s=1) as scene:
            await scene.send("bill1", notify_url=url)
            async with persisting(scene.engine.settings), sweeping(scene.engine.settings):

                async def is_given_up() -> bool:
                    order = await scene.engine.wechatpay_orders.find(MCH_ID, "bill", "bill1")
                    return order is not None and order.notice_due_at_ms is None

                await wait_until(is_given_up, timeout_s=20, what="the giving up")
            assert len(taken) == 3
            found = await asyncio.to_thread(scene.pay.callback, taken[0].headers, taken[0].body)
            assert (found["resource"]["state"], found["resource"]["fail_reason"]) == ("FAIL", "OVERDUE_CLOSE")


@pytest.mark.long
@pytest.mark.parametrize("by_certificate", [False, True], ids=["public key", "certificate"])
async def test_the_platforms_key_is_replaced(
    settings: Settings, by_certificate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client verifies every answer: the next key is only published, then it signs, then the former is gone."""
    monkeypatch.setattr("engine.wechatpay.platform.FRESH_S", 0.0)
    async with opened(settings, by_certificate=by_certificate) as scene:
        platform = scene.engine.wechatpay_platform
        former = await platform.key()
        following = await platform.make_next(3_600)
        assert (await platform.key()).serial_no == former.serial_no, "it is only published so far"
        assert [key.serial_no for key in (await platform.keys()).keys] == [former.serial_no, following.serial_no]
        assert await signer(scene, former.serial_no) == former.serial_no
        assert await is_sent(scene, "bill1")
        with pytest.raises(OperatorError, match="retire the former"):
            await platform.make_next(0)
        with pytest.raises(OperatorError, match="signs yet"):
            await platform.retire(former.serial_no)
        await scene.engine.pool.execute("UPDATE wechatpay_platform SET signs_from_ms = signs_from_ms - 3600000")
        await until_signed_by(scene, following.serial_no, named=former.serial_no)
        assert await is_sent(scene, "bill2")
        assert await signer(scene, former.public_key_id) == former.public_key_id, "known by its id, and in force"
        await platform.retire(former.serial_no)
        assert [key.serial_no for key in (await platform.keys()).keys] == [following.serial_no]
        await until_signed_by(scene, following.public_key_id, named=former.public_key_id)
        if by_certificate:
            assert await is_sent(scene, "bill3")
        else:  # the client was given one id, takes any other for a certificate's number, and cannot verify
            with pytest.raises(ValueError, match=following.public_key_id):
                await is_sent(scene, "bill3")
        with pytest.raises(OperatorError, match="serial_no"):
            await platform.retire(former.serial_no)
        with pytest.raises(OperatorError, match="signs yet"):
            await platform.retire(following.serial_no)


async def signer(scene: Scene, named: str) -> str:
    """Who signs for a merchant that names this key."""
    from wechatpayv3.utils import build_authorization

    path, core = "/v3/certificates", scene.pay._core
    authorization = build_authorization(path, "GET", MCH_ID, core._cert_serial_no, core._private_key)
    answer = await scene.client.http.get(path, headers={"authorization": authorization, "wechatpay-serial": named})
    return str(answer.headers["wechatpay-serial"])


async def until_signed_by(scene: Scene, serial: str, *, named: str) -> None:
    """Another process learns of a change within a few seconds."""

    async def is_signed() -> bool:
        return await signer(scene, named) == serial

    await wait_until(is_signed, timeout_s=30, what="the other key's signature")


async def is_sent(scene: Scene, number: str) -> bool:
    """Whether a bill is sent. The client raises if the answer's signature is not one of the platform's."""
    status, _ = await scene.send(number)
    return status == 200
