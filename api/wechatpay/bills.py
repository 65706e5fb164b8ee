"""What each path of the third version does: JSON in, JSON out."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from api.payloads import PLAIN_TEXT, checked
from engine.engine import Engine
from engine.errors import FieldProblem
from engine.ids import is_user_id
from engine.urls import check_outside, check_webhook
from engine.wechatpay import sandbox
from engine.wechatpay.bills import Bill, BillState
from engine.wechatpay.merchants import Keyed
from engine.wechatpay.orders import Asked, OrderKind, user_id_of
from engine.wechatpay.platform import PlatformKeys, sealed_for
from engine.wechatpay.refusals import Code, RefusalError
from engine.wechatpay.times import rfc3339

BASE = "/v3/fund-app/mch-transfer/transfer-bills"
Text = Annotated[str, PLAIN_TEXT]
Json = dict[str, Any]


class ReportInfo(BaseModel):
    """What a scene asks for. It is checked and not used."""

    model_config = ConfigDict(strict=True, frozen=True)
    info_type: Annotated[Text, Field(min_length=1, max_length=15)]
    info_content: Annotated[Text, Field(min_length=1, max_length=32)]


class BillBody(BaseModel):
    """A bill. Fields that are not named here are ignored, as WeChat Pay does."""

    model_config = ConfigDict(strict=True, frozen=True)
    appid: Annotated[str, Field(min_length=1, max_length=32)]
    out_bill_no: Annotated[str, Field(pattern=r"^[0-9A-Za-z]{1,32}$")]
    transfer_scene_id: Annotated[str, Field(min_length=1, max_length=36)]
    openid: Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{1,64}$")]
    transfer_amount: Annotated[int, Field(ge=1, le=10**15)]
    transfer_remark: Annotated[Text, Field(min_length=1, max_length=32)]
    user_name: Annotated[str | None, Field(max_length=1_024)] = None
    notify_url: Annotated[str | None, Field(max_length=256)] = None
    user_recv_perception: Annotated[str | None, Field(max_length=32)] = None
    transfer_scene_report_infos: Annotated[list[ReportInfo], Field(default_factory=list, max_length=10)]


@dataclass(frozen=True, slots=True, kw_only=True)
class BillCall:
    """A call that is proven to be its merchant's. ``serial``: how the merchant names the platform's key."""

    engine: Engine
    merchant: Keyed
    keys: PlatformKeys
    path: dict[str, str]
    body: bytes
    address: str
    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BillPath:
    """One method of one path."""

    method: str
    path: str
    answer: Callable[[BillCall], Awaitable[Json]]


async def send_bill(call: BillCall) -> Json:
    """Pay for a bill, which its user must confirm."""
    body, merchant = _body_of(call), call.merchant.merchant
    if body.appid not in merchant.appids:
        raise RefusalError(Code.ILLEGAL_APPID)
    if not is_user_id(user_id_of(body.appid, body.openid)):
        raise RefusalError(Code.OPENID_ERROR)
    if body.notify_url is not None:
        try:
            is_real = call.engine.settings.wechatpay_production
            (check_outside if is_real else check_webhook)(body.notify_url)
        except ValueError:
            raise RefusalError(Code.PARAM_ERROR, "notify_url必须是外网可访问的https地址") from None
    terms = body.model_dump(exclude={"user_name", "notify_url"})
    asked = Asked(
        mch_id=merchant.mch_id,
        api="bill",
        number=body.out_bill_no,
        kind=OrderKind.BILL,
        terms_hash=hashlib.sha256(orjson.dumps(terms, option=orjson.OPT_SORT_KEYS)).digest(),
        account=merchant.account,
        address=call.address,
        appid=body.appid,
        openid=body.openid,
        amount_fen=body.transfer_amount,
        wishing=body.transfer_remark,
        notify_url=body.notify_url,
        platform_serial=call.serial,
    )
    wanted = sandbox.refusal_for(asked.amount_fen) if merchant.is_sandbox else None
    if wanted is not None and wanted.err_code not in sandbox.GOES_ON:
        raise wanted
    bill, was_known = await call.engine.wechatpay_bills.send(asked)
    if wanted is not None and not was_known:
        raise wanted
    return _short(bill) | {"create_time": rfc3339(bill.created_at_ms)}


async def find_by_number(call: BillCall) -> Json:
    """A bill by the merchant's number."""
    bill = await call.engine.wechatpay_bills.by_number(call.merchant.merchant.mch_id, call.path["out_bill_no"])
    return _whole(bill)


async def find_by_packet(call: BillCall) -> Json:
    """A bill by our number."""
    bill = await call.engine.wechatpay_bills.by_packet(call.merchant.merchant.mch_id, call.path["transfer_bill_no"])
    return _whole(bill)


async def cancel_bill(call: BillCall) -> Json:
    """End a bill that is not confirmed."""
    bill = await call.engine.wechatpay_bills.cancel(call.merchant.merchant.mch_id, call.path["out_bill_no"])
    return _short(bill) | {"update_time": rfc3339(bill.updated_at_ms)}


async def list_certificates(call: BillCall) -> Json:
    """The certificates of the platform's keys in force, each encrypted with the merchant's key."""
    return {
        "data": [
            {
                "serial_no": key.serial_no,
                "effective_time": rfc3339(int(key.effective_at.timestamp() * 1000)),
                "expire_time": rfc3339(int(key.expires_at.timestamp() * 1000)),
                "encrypt_certificate": sealed_for(call.merchant.v3_key, key.certificate.encode(), "certificate"),
            }
            for key in call.keys.keys
        ]
    }


def _body_of(call: BillCall) -> BillBody:
    try:
        value = orjson.loads(call.body)
    except orjson.JSONDecodeError:
        raise RefusalError(Code.PARAM_ERROR, "请求体不是合法的JSON") from None
    if not isinstance(value, dict):
        raise RefusalError(Code.PARAM_ERROR, "请求体必须是JSON对象")
    problems: list[FieldProblem] = []
    body = checked(BillBody, value, problems)
    if problems or not isinstance(body, BillBody):
        told = "; ".join(f"{problem.field} {problem.message}" for problem in problems[:5])
        raise RefusalError(Code.PARAM_ERROR, f"参数错误：{told}")
    return body


def _short(bill: Bill) -> Json:
    found: Json = {
        "out_bill_no": bill.order.number,
        "transfer_bill_no": bill.order.packet_id or "",
        "state": bill.state.value,
    }
    if bill.fail_reason is not None:
        found["fail_reason"] = bill.fail_reason
    if bill.state is BillState.WAIT_USER_CONFIRM:
        found["package_info"] = bill.order.packet_id
    return found


def _whole(bill: Bill) -> Json:
    order = bill.order
    found: Json = {
        "mch_id": order.mch_id,
        "out_bill_no": order.number,
        "transfer_bill_no": order.packet_id or "",
        "appid": order.appid,
        "state": bill.state.value,
        "transfer_amount": order.amount_fen,
        "transfer_remark": order.wishing,
        "openid": order.openid,
        "create_time": rfc3339(bill.created_at_ms),
        "update_time": rfc3339(bill.updated_at_ms),
    }
    return found if bill.fail_reason is None else found | {"fail_reason": bill.fail_reason}


PATHS = (
    BillPath(method="POST", path=BASE, answer=send_bill),
    BillPath(method="GET", path=f"{BASE}/out-bill-no/{{out_bill_no}}", answer=find_by_number),
    BillPath(method="POST", path=f"{BASE}/out-bill-no/{{out_bill_no}}/cancel", answer=cancel_bill),
    BillPath(method="GET", path=f"{BASE}/transfer-bill-no/{{transfer_bill_no}}", answer=find_by_packet),
    BillPath(method="GET", path="/v3/certificates", answer=list_certificates),
)
"""Every path of the third version."""
