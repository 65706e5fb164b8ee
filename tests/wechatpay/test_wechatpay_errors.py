"""Each error of WeChat Pay's calls, once; none of them moves money."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.engine import Engine
from engine.records import FreezeScope
from engine.settings import Settings
from engine.wechatpay import sandbox
from engine.wechatpay.merchants import MerchantKept
from engine.wechatpay.refusals import SENTENCES, Code
from tests.support.front import Client, open_front
from tests.support.wechatpay import (
    APPID,
    GETHBINFO,
    GETTRANSFERINFO,
    OPENID,
    PATHS,
    SENDGROUPREDPACK,
    SENDREDPACK,
    SHOP,
    TRANSFERS,
    Told,
    call,
    group_packet,
    merchant_of,
    packet,
    packet_query,
    payment,
    payment_query,
    signed,
    told,
    with_sealing,
    xml_of,
)

MONEY_FEN = 1_000_000


class Scene:
    """A merchant with money, and its calls."""

    def __init__(self, client: Client, engine: Engine, kept: MerchantKept) -> None:
        self.client, self.engine, self.key = client, engine, kept.v2_key or ""

    async def call(self, path: str, fields: Told) -> Told:
        return await call(self.client.http, path, fields, self.key)

    async def code(self, path: str, fields: Told) -> str:
        answer = await self.call(path, fields)
        assert answer["result_code"] == "FAIL", answer
        assert answer["err_code_des"] == answer["return_msg"] != ""
        return answer["err_code"]

    async def raw(self, path: str, body: bytes, **headers: str) -> Told:
        answer = await self.client.http.post(path, content=body, headers=headers)
        assert answer.status_code == 200
        return told(answer.content)

    async def balance(self) -> int:
        return (await self.engine.wallets.get(SHOP)).balance_fen


@pytest.fixture
async def scene(settings: Settings) -> AsyncIterator[Scene]:
    settings = with_sealing(settings)
    async with open_front(settings) as client, Engine.open(settings) as engine:
        yield Scene(client, engine, await merchant_of(engine, MONEY_FEN))


PARAMETERS: list[tuple[str, Told]] = [
    *((SENDREDPACK, packet(**{name: None})) for name in packet() if name != "mch_id"),
    *((SENDGROUPREDPACK, group_packet(**{name: None})) for name in group_packet() if name != "mch_id"),
    *((GETHBINFO, packet_query("b1", **{name: None})) for name in packet_query("b1") if name != "mch_id"),
    *((TRANSFERS, payment(**{name: None})) for name in payment() if name not in ("mchid", "spbill_create_ip")),
    *((GETTRANSFERINFO, payment_query("t", **{name: None})) for name in payment_query("t") if name != "mch_id"),
    *(
        (SENDREDPACK, packet(**{name: "字" * (length + 1)}))
        for name, length in {"send_name": 32, "wishing": 128, "act_name": 32, "remark": 256, "nonce_str": 32}.items()
    ),
    (SENDREDPACK, packet(mch_billno="1" * 29)),
    (SENDREDPACK, packet(mch_billno="a b")),
    (SENDREDPACK, packet(mch_billno="１２３")),
    (SENDREDPACK, packet(total_num=2)),
    (SENDREDPACK, packet(total_num="+1")),
    (SENDREDPACK, packet(total_amount="1.00")),
    (SENDREDPACK, packet(total_amount="-100")),
    (SENDREDPACK, packet(total_amount="１００")),
    (SENDREDPACK, packet(total_amount="1" * 16)),
    (SENDREDPACK, packet(client_ip="::1")),
    (SENDREDPACK, packet(client_ip="192.0.2.256")),
    (SENDREDPACK, packet(scene_id="PRODUCT_9")),
    (SENDREDPACK, packet(wishing="\u202e恭喜")),
    (SENDREDPACK, packet(wishing="a\nb")),
    (SENDGROUPREDPACK, group_packet(total_num=2)),
    (SENDGROUPREDPACK, group_packet(total_num=21, total_amount=2_100)),
    (SENDGROUPREDPACK, group_packet(amt_type="ALL_SAME")),
    (GETHBINFO, packet_query("b1", bill_type="OTHER")),
    (TRANSFERS, payment(partner_trade_no="1" * 33)),
    (TRANSFERS, payment(desc="字" * 101)),
    (TRANSFERS, payment(check_name="MAYBE")),
]


async def test_parameters_that_are_missing_too_long_or_of_another_form(scene: Scene) -> None:
    for path, fields in PARAMETERS:
        assert await scene.code(path, fields) == "PARAM_ERROR", (path, fields)
    assert await scene.balance() == MONEY_FEN
    assert await scene.engine.pool.fetchval("SELECT count(*) FROM wechatpay_orders") == 0


async def test_the_longest_texts_are_taken(scene: Scene) -> None:
    longest = {"send_name": "名" * 32, "wishing": "福" * 128, "act_name": "动" * 32, "remark": "注" * 256}
    answer = await scene.call(SENDREDPACK, packet(mch_billno="Z" * 28, **longest))
    assert answer["result_code"] == "SUCCESS", answer


@pytest.mark.parametrize("path", PATHS)
async def test_a_signature_that_is_wrong_missing_or_of_another_case(scene: Scene, path: str) -> None:
    fields = {SENDGROUPREDPACK: group_packet(), TRANSFERS: payment(), GETTRANSFERINFO: payment_query("t")}.get(
        path, packet_query("b1") if path == GETHBINFO else packet()
    )
    right = signed(fields, scene.key)
    for sign in ("", "0" * 32, right["sign"].lower(), "签" * 32):
        answer = await scene.raw(path, xml_of({**right, "sign": sign}))
        assert (answer["return_code"], answer["err_code"]) == ("FAIL", "SIGN_ERROR")
        assert "mch_billno" not in answer
    answer = await scene.raw(path, xml_of({**right, "more": "x"}))
    assert answer["err_code"] == "SIGN_ERROR", "a field more is signed, too"
    assert await scene.code(path, {**fields, "sign_type": "SHA1"}) == "SIGN_ERROR"


async def test_merchants_that_are_unknown_or_closed_have_no_right(scene: Scene) -> None:
    assert await scene.code(SENDREDPACK, packet(mch_id="1900000110")) == "NO_AUTH"
    assert await scene.code(SENDREDPACK, packet(mch_id=None)) == "PARAM_ERROR"
    assert await scene.code(SENDREDPACK, packet(mch_id="shop")) == "PARAM_ERROR"
    for unsupported in ("sub_mch_id", "msgappid", "consume_mch_id"):
        assert await scene.code(SENDREDPACK, packet(**{unsupported: "1900000110"})) == "NO_AUTH"
    await scene.engine.freezes.freeze(SHOP, scope=FreezeScope.SENDING, reason="odd", frozen_by="root")
    assert await scene.code(SENDREDPACK, packet()) == "NO_AUTH"


async def test_a_closed_merchant_has_no_right(settings: Settings) -> None:
    settings = with_sealing(settings)
    async with open_front(settings) as client, Engine.open(settings) as engine:
        scene = Scene(client, engine, await merchant_of(engine, is_closed=True))
        assert await scene.code(SENDREDPACK, packet()) == "NO_AUTH"


async def test_other_errors_of_what_is_sent(scene: Scene) -> None:
    assert await scene.code(SENDREDPACK, packet(wxappid="wx1")) == "ILLEGAL_APPID"
    assert await scene.code(GETHBINFO, packet_query("b1", appid="wx1")) == "ILLEGAL_APPID"
    for openid in ("o x", "o/x", "o" * 33, "开"):
        assert await scene.code(SENDREDPACK, packet(re_openid=openid)) == "OPENID_ERROR"
    for amount in (0, 99, 20_001):
        assert await scene.code(SENDREDPACK, packet(total_amount=amount)) == "MONEY_LIMIT"
    for amount in (499, 100_001):
        assert await scene.code(SENDGROUPREDPACK, group_packet(total_amount=amount)) == "MONEY_LIMIT"
    for amount in (29, 2_000_001):
        assert await scene.code(TRANSFERS, payment(amount=amount)) == "AMOUNT_LIMIT"
    assert await scene.code(TRANSFERS, payment(check_name="FORCE_CHECK", re_user_name="张三")) == "NAME_MISMATCH"
    assert await scene.code(TRANSFERS, payment(amount=MONEY_FEN + 1)) == "NOTENOUGH"
    assert await scene.code(GETHBINFO, packet_query("b1")) == "NOT_FOUND"
    assert await scene.code(GETTRANSFERINFO, payment_query("t1")) == "NOT_FOUND"
    assert await scene.balance() == MONEY_FEN


@pytest.mark.parametrize(
    "change",
    [
        *({"re_openid": "o2"}, {"total_amount": 101}, {"wishing": "别的"}, {"act_name": "别的"}, {"remark": "别的"}),
        *({"send_name": "别的"}, {"scene_id": "PRODUCT_1"}),
    ],
)
async def test_a_number_is_of_one_order(scene: Scene, change: dict[str, Any]) -> None:
    first = packet(mch_billno="b1")
    sent = await scene.call(SENDREDPACK, first)
    assert sent["result_code"] == "SUCCESS"
    again = await scene.call(SENDREDPACK, {**first, "nonce_str": "other", "client_ip": "192.0.2.7"})
    assert again == sent
    assert await scene.code(SENDREDPACK, {**first, **packet(**change), "mch_billno": "b1"}) == "FATAL_ERROR"
    assert await scene.code(SENDGROUPREDPACK, group_packet(mch_billno="b1")) == "FATAL_ERROR"
    assert await scene.balance() == MONEY_FEN - 100
    paid = await scene.call(TRANSFERS, payment(partner_trade_no="b1"))
    assert paid["result_code"] == "SUCCESS", "payments have numbers of their own"


async def test_who_may_not_receive_a_payment(scene: Scene) -> None:
    await scene.engine.freezes.freeze(f"{APPID}:{OPENID}", reason="odd", frozen_by="root")
    first = payment(partner_trade_no="t1")
    assert await scene.code(TRANSFERS, first) == "SEND_FAILED"
    assert await scene.code(TRANSFERS, first) == "SEND_FAILED"
    found = await scene.call(GETTRANSFERINFO, payment_query("t1"))
    assert found["status"] == "FAILED"
    assert found["reason"] != ""


async def test_a_body_that_is_none(scene: Scene) -> None:
    for body in (
        b"",
        b"{}",
        b"<xml>",
        b"<xml/>x",
        b"<a><b>1</b></a>",
        b"\xff\xfe<\x00x\x00",
        b"<xml><a>1</a><a>1</a></xml>",
    ):
        assert (await scene.raw(SENDREDPACK, body))["err_code"] == "XML_ERROR"
    assert (await scene.raw(SENDREDPACK, b"<xml>" + b"x" * 70_000))["err_code"] == "XML_ERROR"
    assert (await scene.raw(SENDREDPACK, b"<xml/>"))["err_code"] == "PARAM_ERROR"


async def test_content_types_do_not_matter(scene: Scene) -> None:
    body = xml_of(signed(packet(), scene.key))
    for content_type in ("application/json", "text/xml", "application/x-www-form-urlencoded"):
        answer = await scene.raw(SENDREDPACK, body, **{"content-type": content_type})
        assert answer["result_code"] == "SUCCESS"


async def test_another_method_is_no_call(scene: Scene) -> None:
    answer = await scene.client.http.get(SENDREDPACK)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_without_servers_the_order_goes_on(settings: Settings) -> None:
    settings = with_sealing(settings)
    async with open_front(settings) as client, Engine.open(settings) as engine:
        scene = Scene(client, engine, await merchant_of(engine))
        fields = packet(mch_billno="b1")
        await engine.pool.execute("ALTER TABLE packets RENAME TO packets_away")
        assert await scene.code(SENDREDPACK, fields) == "SYSTEMERROR"
        await engine.pool.execute("ALTER TABLE packets_away RENAME TO packets")
        assert (await scene.call(SENDREDPACK, fields))["result_code"] == "SUCCESS"


@pytest.mark.parametrize(("amount_fen", "code"), sandbox.AMOUNTS_FEN.items())
async def test_an_amount_of_the_sandbox_gives_its_error(settings: Settings, amount_fen: int, code: Code) -> None:
    settings = with_sealing(settings)
    async with open_front(settings) as client, Engine.open(settings) as engine:
        scene = Scene(client, engine, await merchant_of(engine, MONEY_FEN, is_sandbox=True))
        fields = packet(mch_billno="b1", total_amount=amount_fen)
        assert await scene.code(SENDREDPACK, fields) == code
        if code in sandbox.GOES_ON:
            assert (await scene.call(SENDREDPACK, fields))["result_code"] == "SUCCESS"
            assert await scene.balance() == MONEY_FEN - amount_fen, "the same number again is safe"
        else:
            assert await scene.code(SENDREDPACK, fields) == code
            assert await scene.balance() == MONEY_FEN
        if code is Code.SEND_FAILED:
            assert (await scene.call(GETHBINFO, packet_query("b1")))["status"] == "FAILED"


async def test_production_has_no_sandbox(settings: Settings) -> None:
    settings = with_sealing(settings, wechatpay_production=True, wechatpay_certificate_proxies="127.0.0.1")
    async with open_front(settings) as client, Engine.open(settings) as engine:
        scene = Scene(client, engine, await merchant_of(engine, is_sandbox=True))
        assert await scene.code(SENDREDPACK, packet()) == "NO_AUTH"


def test_every_code_has_a_sentence_and_an_amount() -> None:
    assert SENTENCES.keys() == set(Code)
    assert set(sandbox.AMOUNTS_FEN.values()) == set(Code)
