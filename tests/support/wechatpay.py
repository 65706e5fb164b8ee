"""A merchant of WeChat Pay's calls, and what its clients send and are told."""

import hashlib
import secrets
from collections.abc import Mapping
from xml.etree import ElementTree

import httpx

from engine.engine import Engine
from engine.settings import Settings
from engine.wechatpay import keys
from engine.wechatpay.merchants import MerchantKept, Merchants
from engine.wechatpay.orders import Api, Asked, OrderKind
from tests.support.commands import Up
from tests.support.scenes import changed, fund

APPID, MCH_ID, OPENID = "wx8888888888888888", "1900000109", "oxTWIuGaIt6gTKsQRLau2M0yL16E"
SHOP = "shop"
SENDREDPACK = "/mmpaymkttransfers/sendredpack"
SENDGROUPREDPACK = "/mmpaymkttransfers/sendgroupredpack"
GETHBINFO = "/mmpaymkttransfers/gethbinfo"
TRANSFERS = "/mmpaymkttransfers/promotion/transfers"
GETTRANSFERINFO = "/mmpaymkttransfers/gettransferinfo"
PATHS = (SENDREDPACK, SENDGROUPREDPACK, GETHBINFO, TRANSFERS, GETTRANSFERINFO)
UNLIMITED = {
    "wechatpay_sends_a_minute_max": 0,
    "wechatpay_user_sends_a_minute_max": 0,
    "wechatpay_user_sends_a_day_max": 0,
    "wechatpay_user_day_fen_max": 0,
    "wechatpay_user_day_transfer_fen_max": 0,
    "wechatpay_merchant_day_fen_max": 0,
}
Told = dict[str, str]
_APIS: dict[OrderKind, Api] = {OrderKind.TRANSFER: "transfer", OrderKind.BILL: "bill"}


def with_sealing(settings: Settings, **values: object) -> Settings:
    """The settings without limits but for ``values``, with a key in the data directory that encrypts API keys.

    A setting would not reach processes of their own, which get the settings without secrets.
    """
    keys.make_for_sandbox(settings)
    return changed(settings, **{**UNLIMITED, **values})


async def merchant_of(engine: Engine, money_fen: int = 1_000_000, **terms: object) -> MerchantKept:
    """The merchant, whose account has money."""
    if money_fen:
        await fund(engine, SHOP, money_fen)
    merchants = Merchants(engine.pool, keys.load(engine.settings))
    return await merchants.put(MCH_ID, SHOP, appids=[APPID], **terms)  # type: ignore[arg-type]


def packet(**changes: object) -> Told:
    """The fields of sendredpack. A change to None leaves a field out."""
    fields: dict[str, object] = {
        "nonce_str": secrets.token_hex(16),
        "mch_billno": f"{MCH_ID}{secrets.randbelow(10**16):016d}",
        "mch_id": MCH_ID,
        "wxappid": APPID,
        "send_name": "天虹百货",
        "re_openid": OPENID,
        "total_amount": 100,
        "total_num": 1,
        "wishing": "感谢您参加猜灯谜活动，祝您元宵节快乐！",
        "client_ip": "192.0.2.1",
        "act_name": "猜灯谜抢红包活动",
        "remark": "猜越多得越多，快来抢！",
    }
    return _texts(fields | changes)


def group_packet(**changes: object) -> Told:
    """The fields of sendgroupredpack."""
    return packet(**{"total_amount": 1_000, "total_num": 5, "amt_type": "ALL_RAND", "client_ip": None, **changes})


def packet_query(number: str, **changes: object) -> Told:
    """The fields of gethbinfo."""
    fields = {"nonce_str": "n", "mch_billno": number, "mch_id": MCH_ID, "appid": APPID, "bill_type": "MCHT"}
    return _texts(fields | changes)


def payment(**changes: object) -> Told:
    """The fields of promotion/transfers."""
    fields: dict[str, object] = {
        "mch_appid": APPID,
        "mchid": MCH_ID,
        "nonce_str": secrets.token_hex(16),
        "partner_trade_no": f"{MCH_ID}{secrets.randbelow(10**16):016d}",
        "openid": OPENID,
        "check_name": "NO_CHECK",
        "amount": 100,
        "desc": "理赔",
        "spbill_create_ip": "192.0.2.1",
    }
    return _texts(fields | changes)


def payment_query(number: str, **changes: object) -> Told:
    """The fields of gettransferinfo."""
    return _texts({"nonce_str": "n", "partner_trade_no": number, "mch_id": MCH_ID, "appid": APPID} | changes)


def signed(fields: Mapping[str, str], key: str) -> Told:
    """The fields with their MD5 signature, made apart from the product's code."""
    text = "&".join(f"{name}={value}" for name, value in sorted(fields.items()) if value) + f"&key={key}"
    return {**fields, "sign": hashlib.md5(text.encode()).hexdigest().upper()}


def xml_of(fields: Mapping[str, str]) -> bytes:
    """A body as clients write it."""
    root = ElementTree.Element("xml")
    for name, value in fields.items():
        ElementTree.SubElement(root, name).text = value
    return ElementTree.tostring(root)


def told(body: bytes) -> Told:
    """The fields of an answer without lists."""
    return {element.tag: element.text or "" for element in ElementTree.fromstring(body)}


def received(body: bytes) -> list[Told]:
    """The shares in an answer's hblist."""
    found = ElementTree.fromstring(body).findall("hblist/hbinfo")
    return [{element.tag: element.text or "" for element in share} for share in found]


async def call(http: httpx.AsyncClient, path: str, fields: Mapping[str, str], key: str) -> Told:
    """Call with signed fields; what is told, which is always XML of a 200."""
    answer = await http.post(path, content=xml_of(signed(fields, key)))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/xml")
    return told(answer.content)


def _texts(fields: Mapping[str, object]) -> Told:
    return {name: str(value) for name, value in fields.items() if value is not None}


def sandbox_words(up: Up) -> Told:
    """What `hongbao up --wechatpay-sandbox` prints of its merchant, by name."""
    assert up.process.stdout is not None
    lines = [up.process.stdout.readline().strip() for _ in range(4)]
    return dict(word.split("=", 1) for line in lines for word in line.removeprefix("wechatpay ").split())


def asked_for(
    number: str = "b1",
    *,
    mch_id: str = MCH_ID,
    account: str = SHOP,
    openid: str = OPENID,
    amount_fen: int = 100,
    kind: OrderKind = OrderKind.NORMAL,
    count: int = 1,
    terms_hash: bytes = b"t" * 32,
) -> Asked:
    """What a merchant asks for, as the wire hands it over."""
    return Asked(
        mch_id=mch_id,
        api=_APIS.get(kind, "redpack"),
        number=number,
        kind=kind,
        terms_hash=terms_hash,
        account=account,
        address="192.0.2.1",
        appid=APPID,
        openid=openid,
        amount_fen=amount_fen,
        count=count,
        wishing="恭喜发财",
    )
