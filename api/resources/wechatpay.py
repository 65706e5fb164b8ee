"""Merchants of WeChat Pay's calls: for admins. The calls themselves are in `api.wechatpay`."""

from typing import Annotated, Literal

from pydantic import Field

from api.answers import Answer, as_json
from api.auth import Access
from api.dispatch import Call, Operation
from api.payloads import PageQuery, Payload, UserId
from engine import errors
from engine.wechatpay.merchants import APPIDS_MAX, CERTIFICATES_MAX, Merchant, MerchantKept, MerchantsPage


class WechatpayMerchantBody(Payload):
    """A merchant. All of it is replaced, but its keys stay."""

    account: UserId
    appids: Annotated[
        list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]],
        Field(min_length=1, max_length=APPIDS_MAX, description="Appids that it may send for"),
    ]
    certificates: Annotated[
        list[Annotated[str, Field(min_length=64, max_length=95)]],
        Field(
            default_factory=list,
            max_length=CERTIFICATES_MAX,
            description="SHA-256 of the client certificates it may call with, in hexadecimal; if there is one, it must",
        ),
    ]
    is_sandbox: Annotated[bool, Field(description="Whether amounts give errors, for trying; refused in production")] = (
        False
    )
    is_closed: Annotated[bool, Field(description="Whether its calls are refused")] = False


class WechatpayKeyBody(Payload):
    """Which key is made anew."""

    key: Annotated[Literal["v2", "v3", "rsa"], Field(description="Which key; the one before is refused from now on")]


async def put_wechatpay_merchant(call: Call) -> Answer:
    """Add a merchant, with keys that are shown once, or change one."""
    body = call.body
    kept = await call.engine.wechatpay_merchants.put(
        call.path["mch_id"],
        body.account,
        appids=body.appids,
        certificates=body.certificates,
        is_sandbox=body.is_sandbox,
        is_closed=body.is_closed,
    )
    return as_json(kept)


async def list_wechatpay_merchants(call: Call) -> Answer:
    """Return the merchants in the order of their numbers."""
    return as_json(await call.engine.wechatpay_merchants.page(after=call.query.after, limit=call.query.limit))


async def get_wechatpay_merchant(call: Call) -> Answer:
    """Return a merchant without its keys."""
    return as_json(await call.engine.wechatpay_merchants.get(call.path["mch_id"]))


async def renew_wechatpay_key(call: Call) -> Answer:
    """Make a new key, which is shown once."""
    return as_json(await call.engine.wechatpay_merchants.renew_key(call.path["mch_id"], call.body.key))


_ADMIN = Access(("admin",))
ROUTES = (
    Operation(
        method="GET",
        path="/v1/wechatpay/merchants",
        endpoint=list_wechatpay_merchants,
        summary="The merchants of WeChat Pay's calls, in the order of their numbers, without their keys.",
        access=_ADMIN,
        query=PageQuery,
        answer=MerchantsPage,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="GET",
        path="/v1/wechatpay/merchants/{mch_id}",
        endpoint=get_wechatpay_merchant,
        summary="A merchant without its keys.",
        access=_ADMIN,
        answer=Merchant,
        problems=(errors.UnknownWechatpayMerchantError, errors.UnavailableError),
    ),
    Operation(
        method="PUT",
        path="/v1/wechatpay/merchants/{mch_id}",
        endpoint=put_wechatpay_merchant,
        summary="Add a merchant, whose API keys are in this answer and never again, or change all of one but its keys.",
        access=_ADMIN,
        body=WechatpayMerchantBody,
        answer=MerchantKept,
        may_be_repeated=False,  # a second answer has no keys: who made the merchant must know, and renew them
        problems=(errors.NoWechatpayKeyError, errors.UnavailableError),
    ),
    Operation(
        method="POST",
        path="/v1/wechatpay/merchants/{mch_id}/keys",
        endpoint=renew_wechatpay_key,
        summary="Make one of a merchant's API keys anew. It is in this answer and never again.",
        access=_ADMIN,
        body=WechatpayKeyBody,
        answer=MerchantKept,
        may_be_repeated=False,  # each makes another key
        problems=(errors.UnknownWechatpayMerchantError, errors.NoWechatpayKeyError, errors.UnavailableError),
    ),
)
