"""Calls of the third version, made by hand: who may call, each error, replays."""

import base64
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.wechatpay.authorization import WINDOW_S, authorization_in
from api.wechatpay.bill_endpoint import STATUSES
from api.wechatpay.bills import BASE, PATHS
from engine.engine import Engine
from engine.settings import Settings
from engine.wechatpay import rsa_keys, sandbox
from engine.wechatpay.refusals import RefusalError
from tests.support.front import Client, Json, open_front
from tests.support.wechatpay import APPID, MCH_ID, OPENID, SHOP, merchant_of, with_sealing

MONEY_FEN = 1_000_000


class Scene:
    """A merchant with money and an RSA key."""

    def __init__(self, client: Client, engine: Engine, private: str, serial_no: str) -> None:
        self.client, self.engine, self.serial_no = client, engine, serial_no
        self.key = rsa_keys.private_key(private)

    def header(self, method: str, target: str, body: bytes, **changes: str) -> dict[str, str]:
        """The header Authorization. A change to "" leaves a part out."""
        parts = {
            "mchid": MCH_ID,
            "nonce_str": secrets.token_hex(16),
            "timestamp": str(int(time.time())),
            "serial_no": self.serial_no,
        } | changes
        message = f"{method}\n{target}\n{parts['timestamp']}\n{parts['nonce_str']}\n".encode() + body + b"\n"
        parts = {"signature": rsa_keys.sign(self.key, message), **parts}
        inner = ",".join(f'{name}="{value}"' for name, value in parts.items() if value)
        return {"authorization": f"WECHATPAY2-SHA256-RSA2048 {inner}"}

    async def call(self, method: str, target: str, body: Json | None = None, **changes: str) -> tuple[int, Json]:
        raw = b"" if body is None else orjson.dumps(body)
        return await self.raw(method, target, raw, self.header(method, target, raw, **changes))

    async def raw(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> tuple[int, Json]:
        answer = await self.client.http.request(method, target, content=body, headers=headers)
        if "wechatpay-signature" in answer.headers:
            await self.check(answer)
        return answer.status_code, answer.json()

    async def check(self, answer: httpx.Response) -> None:
        """An answer is signed by the platform's key, errors as well."""
        key, headers = await self.engine.wechatpay_platform.key(), answer.headers
        message = f"{headers['wechatpay-timestamp']}\n{headers['wechatpay-nonce']}\n".encode() + answer.content + b"\n"
        assert rsa_keys.is_signed(key.public_key, message, headers["wechatpay-signature"])

    async def balance(self) -> int:
        return (await self.engine.wallets.get(SHOP)).balance_fen


@pytest.fixture
async def scene(settings: Settings) -> AsyncIterator[Scene]:
    settings = with_sealing(settings)
    async with open_front(settings) as client, Engine.open(settings) as engine:
        yield await scene_of(client, engine)


async def scene_of(client: Client, engine: Engine, **terms: object) -> Scene:
    client.http.event_hooks = {}  # these answers are WeChat Pay's, not the OpenAPI document's
    await merchant_of(engine, MONEY_FEN, **terms)
    kept = await engine.wechatpay_merchants.renew_key(MCH_ID, "rsa")
    assert kept.rsa_key is not None
    assert kept.merchant.serial_no is not None
    return Scene(client, engine, kept.rsa_key, kept.merchant.serial_no)


def bill(**changes: Any) -> Json:  # noqa: ANN401  # of any kind, to be refused
    terms = {
        "appid": APPID,
        "out_bill_no": secrets.token_hex(16),
        "transfer_scene_id": "1000",
        "openid": OPENID,
        "transfer_amount": 100,
        "transfer_remark": "报销",
    }
    return {name: value for name, value in (terms | changes).items() if value is not None}


async def test_a_call_is_taken_once(scene: Scene) -> None:
    raw = orjson.dumps(bill())
    headers = scene.header("POST", BASE, raw)
    assert (await scene.raw("POST", BASE, raw, headers))[0] == 200
    status, problem = await scene.raw("POST", BASE, raw, headers)
    assert (status, problem["code"]) == (401, "SIGN_ERROR")
    assert await scene.balance() == MONEY_FEN - 100
    await scene.engine.wechatpay_orders.forget_counts(int(time.time() * 1000))
    assert (await scene.raw("POST", BASE, raw, headers))[0] == 401, "a nonce is kept for longer than a call is good"
    await scene.engine.wechatpay_orders.forget_counts(int(time.time() * 1000) + 7_200_000)
    assert await scene.engine.pool.fetchval("SELECT count(*) FROM wechatpay_nonces") == 0


@pytest.mark.parametrize("off_s", [-WINDOW_S - 5, WINDOW_S + 5])
async def test_a_call_of_another_time_is_refused(scene: Scene, off_s: int) -> None:
    status, problem = await scene.call("POST", BASE, bill(), timestamp=str(int(time.time()) + off_s))
    assert (status, problem["code"]) == (401, "SIGN_ERROR")
    status, _ = await scene.call("POST", BASE, bill(), timestamp=str(int(time.time()) + off_s // 2))
    assert status == 200


async def test_any_change_breaks_the_signature(scene: Scene) -> None:
    body, raw = bill(), orjson.dumps(bill())
    headers = scene.header("POST", BASE, orjson.dumps(body))
    for changed in (orjson.dumps(body | {"transfer_amount": 101}), orjson.dumps(body) + b" ", raw):
        assert (await scene.raw("POST", BASE, changed, headers))[0] == 401
    path = f"{BASE}/out-bill-no/b1"
    assert (await scene.raw("GET", f"{path}?x=1", b"", scene.header("GET", path, b"")))[0] == 401
    assert (await scene.raw("POST", f"{path}/cancel", b"", scene.header("GET", f"{path}/cancel", b"")))[0] == 401
    assert (await scene.raw("GET", f"{path}?x=1", b"", scene.header("GET", f"{path}?x=1", b"")))[0] == 404
    assert await scene.balance() == MONEY_FEN


async def test_who_is_not_the_merchant_is_refused(scene: Scene) -> None:
    for changes in ({"mchid": "1900000110"}, {"mchid": "x"}, {"serial_no": "AB"}, {"timestamp": ""}, {"nonce_str": ""}):
        assert (await scene.call("POST", BASE, bill(), **changes))[0] == 401, changes
    scene.key = rsa_keys.private_key(rsa_keys.new_rsa_pair().private)
    assert (await scene.call("POST", BASE, bill()))[0] == 401
    for header in (
        "",
        "Bearer x",
        "WECHATPAY2-SHA256-RSA2048",
        'WECHATPAY2-SHA256-RSA2048 mchid="1',
        "WECHATPAY2-SM2-WITH-SM3 x",
    ):
        assert (await scene.raw("POST", BASE, b"{}", {"authorization": header}))[0] == 401
    assert await scene.balance() == MONEY_FEN


async def test_a_merchant_without_an_rsa_key_cannot_call(settings: Settings) -> None:
    settings = with_sealing(settings)
    async with open_front(settings) as client, Engine.open(settings) as engine:
        client.http.event_hooks = {}
        await merchant_of(engine)
        pair = rsa_keys.new_rsa_pair()
        assert (await Scene(client, engine, pair.private, pair.serial_no).call("POST", BASE, bill()))[0] == 401


async def test_a_closed_merchant_has_no_right(settings: Settings) -> None:
    settings = with_sealing(settings)
    async with open_front(settings) as client, Engine.open(settings) as engine:
        status, problem = await (await scene_of(client, engine, is_closed=True)).call("POST", BASE, bill())
        assert (status, problem["code"]) == (403, "NO_AUTH")


OTHER_FORMS: list[Json] = [
    *({name: None} for name in bill()),
    *({"out_bill_no": text} for text in ("", "a b", "x" * 33, 1)),
    *({"transfer_amount": amount} for amount in (0, -1, 1.5, "100", True, 10**16)),
    *({"openid": text} for text in ("o x", "", "o" * 65)),
    {"transfer_remark": "字" * 33},
    {"transfer_remark": "\u202e"},
    {"transfer_scene_report_infos": [{"info_type": "x"}]},
    {"transfer_scene_report_infos": "x"},
    *({"notify_url": url} for url in ("http://shop.example/x", "ftp://x", "x", "https://")),
    {"openid": "o" * 50},
    {"appid": "wx1"},
]


@pytest.mark.long
async def test_a_bill_of_another_form(scene: Scene) -> None:
    for changes in OTHER_FORMS:
        status, problem = await scene.call("POST", BASE, bill(**changes))
        assert (status, problem["code"]) == (400, "PARAM_ERROR"), (changes, problem)
        assert await scene.balance() == MONEY_FEN, changes


OWN_HOSTS = (
    *("127.0.0.1", "10.1.2.3:2375", "169.254.169.254", "[::1]", "[fd00::1]"),
    *("localhost", "LOCALHOST.", "a.localhost", "2130706433", "0x7f.1", "127.1"),
    *("[::ffff:127.0.0.1]", "0.0.0.0", "224.0.0.1"),
    *("prometheus:9090", "db.internal", "0x7f000001", "127.0.0.1."),
)


@pytest.mark.long
async def test_in_production_no_notice_goes_into_our_own_network(settings: Settings) -> None:
    """A merchant is somebody else: what listens here for us alone must not get its requests through us."""
    settings = with_sealing(settings, wechatpay_production=True, wechatpay_certificate_proxies="127.0.0.1")
    async with open_front(settings) as client, Engine.open(settings) as engine:
        scene = await scene_of(client, engine)
        for url in (*(f"https://{host}/x" for host in OWN_HOSTS), "http://127.0.0.1:9090/-/quit"):
            found, answer = await scene.call("POST", BASE, bill(notify_url=url))
            assert found == 400, (url, answer)
        for url in ("https://shop.example/x", "https://8.8.8.8/x"):
            found, answer = await scene.call("POST", BASE, bill(notify_url=url))
            assert found == 200, (url, answer)


async def test_bodies_that_are_none(scene: Scene) -> None:
    for raw in (b"", b"[]", b"{", b"\xff", b"[" * 50_000, b"{}" + b" " * 70_000):
        status, problem = await scene.raw("POST", BASE, raw, scene.header("POST", BASE, raw))
        assert (status, problem["code"]) in ((400, "PARAM_ERROR"), (401, "SIGN_ERROR")), raw[:10]


async def test_amounts_out_of_bounds(scene: Scene) -> None:
    for amount in (29, 2_000_001):
        status, problem = await scene.call("POST", BASE, bill(transfer_amount=amount))
        assert (status, problem["code"]) == (400, "INVALID_REQUEST")


async def test_a_name_is_not_compared_and_unknown_fields_are_ignored(scene: Scene) -> None:
    assert (await scene.call("POST", BASE, bill(user_name="x" * 344, more={"a": 1})))[0] == 200


async def test_bills_of_another_merchant_are_not_found(scene: Scene) -> None:
    _, sent = await scene.call("POST", BASE, bill(out_bill_no="b1"))
    await scene.engine.wechatpay_merchants.put("1900000110", "other", appids=[APPID])
    other = await scene.engine.wechatpay_merchants.renew_key("1900000110", "rsa")
    scene.key, serial_no = rsa_keys.private_key(other.rsa_key or ""), other.merchant.serial_no or ""
    for path in (
        "out-bill-no/b1",
        f"transfer-bill-no/{sent['transfer_bill_no']}",
        "transfer-bill-no/1",
        "transfer-bill-no/x",
    ):
        named = {"mchid": "1900000110", "serial_no": serial_no}
        status, problem = await scene.call("GET", f"{BASE}/{path}", None, **named)
        assert (status, problem["code"]) == (404, "NOT_FOUND")


@pytest.mark.long
async def test_an_amount_of_the_sandbox_gives_its_error(settings: Settings) -> None:
    settings = with_sealing(settings)
    async with open_front(settings) as client, Engine.open(settings) as engine:
        scene = await scene_of(client, engine, is_sandbox=True)
        for amount_fen, code in sandbox.AMOUNTS_FEN.items():
            body = bill(transfer_amount=amount_fen)
            status, problem = await scene.call("POST", BASE, body)
            assert (status, problem["code"]) == STATUSES.get(code, (400, "PARAM_ERROR")), code
            assert ((await scene.call("POST", BASE, body))[0] == 200) == (code in sandbox.GOES_ON), code


async def test_another_method_is_no_call(scene: Scene) -> None:
    answer = await scene.client.http.delete(BASE)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_the_platforms_key_is_one_for_all_processes(settings: Settings) -> None:
    settings = with_sealing(settings)
    async with Engine.open(settings) as first, Engine.open(settings) as second:
        assert (await first.wechatpay_platform.key()).public_key_id == (
            await second.wechatpay_platform.key()
        ).public_key_id
        (row,) = await first.pool.fetch("SELECT * FROM wechatpay_platform")
        assert b"PRIVATE KEY" not in row["private"]


HEADERS = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=300)


@given(HEADERS)
def test_a_header_is_well_formed_or_refused(text: str) -> None:
    for header in (text, f"WECHATPAY2-SHA256-RSA2048 {text}"):
        with contextlib.suppress(RefusalError):
            assert authorization_in({b"authorization": header.encode("latin-1")}).timestamp.isdigit()


@given(st.binary(max_size=100), st.text(max_size=400))
def test_no_other_signature_is_one(message: bytes, other: str) -> None:
    assert not rsa_keys.is_signed(PAIR.public, message, other)
    assert not rsa_keys.is_signed(PAIR.public, message, base64.b64encode(other.encode()).decode())


def test_the_right_signature_is_one() -> None:
    signature = rsa_keys.sign(rsa_keys.private_key(PAIR.private), b"message")
    assert rsa_keys.is_signed(PAIR.public, b"message", signature)
    assert not rsa_keys.is_signed(PAIR.public, b"messagf", signature)
    assert len(PATHS) == 5


PAIR = rsa_keys.new_rsa_pair()
