"""What each path of WeChat Pay does: from checked fields to a use case, and from its result to an answer's fields."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import orjson

from api.wechatpay import fields as tables
from api.wechatpay.fields import Rule
from api.wechatpay.xml import Value
from engine.engine import Engine
from engine.ids import is_user_id
from engine.wechatpay import sandbox
from engine.wechatpay.merchants import Keyed
from engine.wechatpay.orders import Api, Asked, Order, OrderKind, user_id_of
from engine.wechatpay.querying import PacketStatus, PaymentStatus
from engine.wechatpay.refusals import Code, RefusalError
from engine.wechatpay.times import china_time

GROUP_COUNT_MIN, GROUP_COUNT_MAX = 3, 20
"""Shares of a group packet, as WeChat Pay has it."""
_NOT_TERMS = frozenset({"nonce_str", "sign", "sign_type", "client_ip", "spbill_create_ip", "risk_info", "device_info"})
"""Fields that may differ when a call is repeated with the same number."""
Fields = Mapping[str, str]
Answer = dict[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A call that is proven to be its merchant's, with checked fields. ``address``: where it comes from."""

    engine: Engine
    merchant: Keyed
    fields: Fields
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallKind:
    """One path. ``echoed``: fields that come back in every answer. ``is_signed``: whether the answer is signed."""

    path: str
    rules: Mapping[str, Rule]
    merchant_field: str
    appid_field: str
    echoed: tuple[str, ...]
    answer: Callable[[Asking], Awaitable[Answer]]
    is_signed: bool = False


async def send_packet(asking: Asking) -> Answer:
    """Send a packet for one user."""
    if int(asking.fields["total_num"]) != 1:
        raise RefusalError(Code.PARAM_ERROR, "total_num必须是1")
    return await _send_packet(asking, OrderKind.NORMAL, 1)


async def send_group_packet(asking: Asking) -> Answer:
    """Send a packet of several shares, whose amounts chance decides."""
    count = int(asking.fields["total_num"])
    if not GROUP_COUNT_MIN <= count <= GROUP_COUNT_MAX:
        raise RefusalError(Code.PARAM_ERROR, f"total_num必须在{GROUP_COUNT_MIN}至{GROUP_COUNT_MAX}之间")
    return await _send_packet(asking, OrderKind.GROUP, count)


async def _send_packet(asking: Asking, kind: OrderKind, count: int) -> Answer:
    fields = asking.fields
    asked = _asked(asking, "redpack", kind, fields["mch_billno"], tables.SENDGROUPREDPACK, count=count)
    order = await _sent(asking, asked)
    return {"total_amount": order.amount_fen, "send_listid": order.packet_id or ""}


async def find_packet(asking: Asking) -> Answer:
    """Tell what has become of a packet."""
    found = await asking.engine.wechatpay_querying.packet(asking.merchant.merchant.mch_id, asking.fields["mch_billno"])
    order = found.order
    answer: Answer = {
        "detail_id": order.packet_id or "",
        "status": found.status.value,
        "send_type": "API",
        "hb_type": "GROUP" if order.kind is OrderKind.GROUP else "NORMAL",
        "total_num": order.count,
        "total_amount": order.amount_fen,
    }
    if found.status is PacketStatus.FAILED:
        answer["reason"] = order.err_text or ""
    answer["send_time"] = china_time(found.sent_at_ms)
    if found.refund_at_ms is not None:
        answer |= {"refund_time": china_time(found.refund_at_ms), "refund_amount": found.refund_fen or 0}
    answer |= {"wishing": order.wishing, "remark": order.remark, "act_name": order.act_name}
    answer["hblist"] = [
        {"openid": share.openid, "amount": share.amount_fen, "rcv_time": china_time(share.at_ms)}
        for share in found.received
    ]
    return answer


async def pay_user(asking: Asking) -> Answer:
    """Pay a user at once."""
    fields = asking.fields
    if fields["check_name"] == "FORCE_CHECK":
        raise RefusalError(Code.NAME_MISMATCH)
    asked = _asked(asking, "transfer", OrderKind.TRANSFER, fields["partner_trade_no"], tables.TRANSFERS)
    order = await _sent(asking, asked)
    given_at_ms = order.given_at_ms or order.asked_at_ms
    return {"payment_no": order.packet_id or "", "payment_time": china_time(given_at_ms)}


async def find_payment(asking: Asking) -> Answer:
    """Tell what has become of a payment."""
    number = asking.fields["partner_trade_no"]
    found = await asking.engine.wechatpay_querying.payment(asking.merchant.merchant.mch_id, number)
    order = found.order
    answer: Answer = {"detail_id": order.packet_id or "", "status": found.status.value}
    if found.status is PaymentStatus.FAILED:
        answer["reason"] = order.err_text or ""
    answer |= {
        "openid": order.openid,
        "payment_amount": order.amount_fen,
        "transfer_time": china_time(order.asked_at_ms),
    }
    if order.given_at_ms is not None:
        answer["payment_time"] = china_time(order.given_at_ms)
    return answer | {"desc": order.wishing}


def _asked(
    asking: Asking, api: Api, kind: OrderKind, number: str, rules: Mapping[str, Rule], *, count: int = 1
) -> Asked:
    fields, merchant, is_transfer = asking.fields, asking.merchant.merchant, api == "transfer"
    appid, openid = fields["mch_appid" if is_transfer else "wxappid"], fields["openid" if is_transfer else "re_openid"]
    if not is_user_id(user_id_of(appid, openid)):
        raise RefusalError(Code.OPENID_ERROR)
    terms = {name: fields[name] for name in rules if name not in _NOT_TERMS and fields.get(name)}
    canonical = orjson.dumps([kind.value, terms], option=orjson.OPT_SORT_KEYS)
    return Asked(
        mch_id=merchant.mch_id,
        api=api,
        number=number,
        kind=kind,
        terms_hash=hashlib.sha256(canonical).digest(),
        account=merchant.account,
        address=asking.address,
        appid=appid,
        openid=openid,
        amount_fen=int(fields["amount" if is_transfer else "total_amount"]),
        count=count,
        wishing=fields["desc" if is_transfer else "wishing"],
        send_name=fields.get("send_name", ""),
        act_name=fields.get("act_name", ""),
        remark=fields.get("remark", ""),
    )


async def _sent(asking: Asking, asked: Asked) -> Order:
    """Send what is asked for. In the sandbox, the amount may ask for an error."""
    sending = asking.engine.wechatpay_sending
    wanted = sandbox.refusal_for(asked.amount_fen) if asking.merchant.merchant.is_sandbox else None
    if wanted is not None and wanted.err_code not in sandbox.GOES_ON:
        if wanted.err_code is Code.SEND_FAILED:
            await sending.fail(asked, wanted)
        raise wanted
    order, was_known = await sending.send(asked)
    if wanted is not None and not was_known:
        raise wanted
    return order


_SENT = ("mch_billno", "mch_id", "wxappid", "re_openid")
CALLS = (
    CallKind(
        path="/mmpaymkttransfers/sendredpack",
        rules=tables.SENDREDPACK,
        merchant_field="mch_id",
        appid_field="wxappid",
        echoed=_SENT,
        answer=send_packet,
    ),
    CallKind(
        path="/mmpaymkttransfers/sendgroupredpack",
        rules=tables.SENDGROUPREDPACK,
        merchant_field="mch_id",
        appid_field="wxappid",
        echoed=_SENT,
        answer=send_group_packet,
        is_signed=True,
    ),
    CallKind(
        path="/mmpaymkttransfers/gethbinfo",
        rules=tables.GETHBINFO,
        merchant_field="mch_id",
        appid_field="appid",
        echoed=("mch_billno", "mch_id"),
        answer=find_packet,
    ),
    CallKind(
        path="/mmpaymkttransfers/promotion/transfers",
        rules=tables.TRANSFERS,
        merchant_field="mchid",
        appid_field="mch_appid",
        echoed=("mch_appid", "mchid", "device_info", "nonce_str", "partner_trade_no"),
        answer=pay_user,
    ),
    CallKind(
        path="/mmpaymkttransfers/gettransferinfo",
        rules=tables.GETTRANSFERINFO,
        merchant_field="mch_id",
        appid_field="appid",
        echoed=("partner_trade_no", "mch_id", "appid"),
        answer=find_payment,
    ),
)
"""Every path, with what it needs."""
