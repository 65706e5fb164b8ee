"""Coupons 优惠券: batches, their codes, and what becomes of each coupon."""

from typing import Annotated, Literal

from pydantic import Field

from api.answers import Answer, Streamed, as_csv_file, as_json
from api.auth import ANY_TOKEN, Access
from api.dispatch import Call, Operation
from api.payloads import NewestFirstQuery, Payload
from engine import errors
from engine.coupons import redemptions
from engine.coupons.batches import BatchesPage, BatchMade, BatchStatement, BatchTerms, BatchView
from engine.coupons.codes import CODE_LENGTH_MAX
from engine.coupons.ending import CouponEnd, CouponPassedOn
from engine.coupons.given import CouponsPage
from engine.coupons.uploading import PART_CODES_MAX, PartUploaded, upload_part
from engine.records import Coupon, CouponFace, CouponState

_REPLAYED = (b"idempotency-replayed", b"true")


class FaceBody(Payload):
    """What a coupon is worth. The kind says which of the other fields are required; the others must be left out."""

    kind: Annotated[
        Literal["amount_off", "percent_off", "threshold", "text"],
        Field(
            description="amount_off: `off_fen` less; percent_off: `percent` less; threshold: `off_fen` less from "
            "`from_fen` on; text: as `text` says"
        ),
    ]
    off_fen: Annotated[int | None, Field(description="How much less, in fen")] = None
    from_fen: Annotated[int | None, Field(description="The least sum, in fen; at least off_fen")] = None
    percent: Annotated[int | None, Field(description="How much less, 1 to 100")] = None
    text: Annotated[str | None, Field(description="1 to 200 characters that people can read")] = None


class CouponBatchBody(Payload):
    """A batch of coupons."""

    name: Annotated[str, Field(description="1 to 40 characters that people can read")]
    face: Annotated[FaceBody, Field(description="What each coupon is worth")]
    count: Annotated[int, Field(description="How many coupons: at most 10,000,000, with uploaded codes 5,000,000")]
    valid_from_ms: Annotated[int, Field(description="When its time begins, in milliseconds since 1970")]
    valid_until_ms: Annotated[int, Field(description="When its time is over")]
    codes: Annotated[
        Literal["derived", "uploaded"], Field(description="derived: made by the server; uploaded: the owner's own")
    ] = "derived"
    is_transferable: Annotated[bool, Field(description="Whether a holder may pass a coupon on")] = False


class CodesBody(Payload):
    """A part of a batch's codes."""

    codes: Annotated[
        list[str],
        Field(
            min_length=1,
            max_length=PART_CODES_MAX,
            description="Each 4 to 64 of A-Z a-z 0-9 . _ : / + = -, and different from all others of the batch",
        ),
    ]


class CouponEndBody(Payload):
    """A redemption, or declaring a coupon void."""

    note: Annotated[str, Field(description="The owner's own words, as an order's number; at most 200 characters")] = ""


class RedemptionBody(CouponEndBody):
    """A redemption by a code."""

    code: Annotated[str, Field(max_length=CODE_LENGTH_MAX, description="The code that the holder shows")]


class CouponTransferBody(Payload):
    """A coupon for another user."""

    to: Annotated[str, Field(description="Who gets it")]


class CouponsQuery(NewestFirstQuery):
    """A part of a user's coupons."""

    state: Annotated[
        Literal["held", "redeemed", "void", "expired"] | None, Field(description="Only those in this state")
    ] = None


async def make_coupon_batch(call: Call) -> Answer:
    """Make a batch of coupons."""
    body: CouponBatchBody = call.body
    terms = BatchTerms(
        name=body.name,
        face=CouponFace(**body.face.model_dump()),
        count=body.count,
        codes=body.codes,
        is_transferable=body.is_transferable,
        valid_from_ms=body.valid_from_ms,
        valid_until_ms=body.valid_until_ms,
    )
    made, is_replayed = await call.engine.coupon_batches.make(
        call.caller.user, terms, idempotency_key=call.idempotency_key, request_hash=call.request_hash
    )
    return as_json(made, 201, *([_REPLAYED] if is_replayed else []))


async def get_coupon_batch(call: Call) -> Answer:
    """Return a batch to its owner."""
    batches = call.engine.coupon_batches
    return as_json(await batches.view(await batches.of(call.path["batch_id"], _owner(call))))


async def list_coupon_batches(call: Call) -> Answer:
    """Return an owner's batches, newest first."""
    user_id, query = call.path["user_id"], call.query
    call.caller.may_read(user_id)
    return as_json(await call.engine.coupon_batches.of_owner(user_id, after=query.after, limit=query.limit))


async def get_coupon_statement(call: Call) -> Answer:
    """Return what has become of a batch's coupons."""
    batches = call.engine.coupon_batches
    return as_json(await batches.statement(await batches.of(call.path["batch_id"], _owner(call))))


async def upload_coupon_codes(call: Call) -> Answer:
    """Take a part of a batch's codes."""
    batches = call.engine.coupon_batches
    batch = await batches.owned(int(call.path["batch_id"]), call.caller.user)
    part = int(call.path["part"])
    return as_json(await upload_part(call.engine.pool, batches, batch, part, call.body.codes))


async def redeem_coupon_code(call: Call) -> Answer:
    """Redeem a coupon by its code."""
    ended, is_replayed = await call.engine.coupon_acts.redeem_code(
        call.path["batch_id"],
        call.body.code,
        call.caller.user,
        note=call.body.note,
        idempotency_key=call.idempotency_key,
        request_hash=call.request_hash,
    )
    return as_json(ended, 201, *([_REPLAYED] if is_replayed else []))


async def list_redemptions(call: Call) -> Streamed:
    """Return a batch's redemptions as a file for spreadsheets."""
    batch = await call.engine.coupon_batches.of(call.path["batch_id"], _owner(call))
    return await as_csv_file(redemptions.file_name(batch), redemptions.as_csv(call.engine.pool, batch))


async def get_coupon(call: Call) -> Answer:
    """Return a coupon; its code only to its holder."""
    viewer = call.caller.user_id if call.caller.sees_all else call.caller.user
    return as_json(await call.engine.coupons.get(call.path["coupon_id"], viewer, sees_all=call.caller.sees_all))


async def list_coupons(call: Call) -> Answer:
    """Return a user's coupons, those of the newest batches first; codes only to the user."""
    user_id, query = call.path["user_id"], call.query
    call.caller.may_read(user_id)
    page = await call.engine.coupons.of_holder(
        user_id,
        state=None if query.state is None else CouponState(query.state),
        after=query.after,
        limit=query.limit,
        shows_codes=call.caller.user_id == user_id,
    )
    return as_json(page)


async def redeem_coupon(call: Call) -> Answer:
    """Redeem a coupon."""
    ended, is_replayed = await call.engine.coupon_acts.redeem(
        call.path["coupon_id"],
        call.caller.user,
        note=_note(call),
        idempotency_key=call.idempotency_key,
        request_hash=call.request_hash,
    )
    return as_json(ended, 201, *([_REPLAYED] if is_replayed else []))


async def void_coupon(call: Call) -> Answer:
    """Declare a coupon void."""
    ended, is_replayed = await call.engine.coupon_acts.void(
        call.path["coupon_id"],
        call.caller.user,
        note=_note(call),
        idempotency_key=call.idempotency_key,
        request_hash=call.request_hash,
    )
    return as_json(ended, 201, *([_REPLAYED] if is_replayed else []))


async def transfer_coupon(call: Call) -> Answer:
    """Pass a coupon on."""
    passed, is_replayed = await call.engine.coupon_acts.pass_on(
        call.path["coupon_id"],
        call.caller.user,
        call.body.to,
        idempotency_key=call.idempotency_key,
        request_hash=call.request_hash,
    )
    return as_json(passed, 201, *([_REPLAYED] if is_replayed else []))


def _owner(call: Call) -> str | None:
    """Whose batches are looked at. An admin sees everybody's."""
    return None if call.caller.sees_all else call.caller.user


def _note(call: Call) -> str:
    return "" if call.body is None else call.body.note


_OWNER = Access(("send", "act"), for_user=True)
_ENDING = (
    errors.UnknownCouponError,
    errors.NotSenderError,
    errors.CouponEndedError,
    errors.UnavailableError,
)

ROUTES = (
    Operation(
        method="POST",
        path="/v1/coupon-batches",
        endpoint=make_coupon_batch,
        summary="Make a batch of coupons, for a merchant. They are issued to the merchant at once, who sends them with "
        "packets of the batch's asset.",
        access=_OWNER,
        body=CouponBatchBody,
        moves_money=True,
        answer=BatchMade,
        status=201,
        problems=(errors.NotMerchantError, errors.NoCouponKeyError, errors.UnavailableError),
    ),
    Operation(
        method="GET",
        path="/v1/coupon-batches/{batch_id}",
        endpoint=get_coupon_batch,
        summary="A batch of coupons, for its owner.",
        access=ANY_TOKEN,
        answer=BatchView,
        problems=(errors.UnknownCouponBatchError, errors.UnavailableError),
    ),
    Operation(
        method="GET",
        path="/v1/coupon-batches/{batch_id}/statement",
        endpoint=get_coupon_statement,
        summary="What has become of a batch's coupons, for its owner: all numbers but `count` sum to it.",
        access=ANY_TOKEN,
        answer=BatchStatement,
        problems=(errors.UnknownCouponBatchError, errors.UnavailableError),
    ),
    Operation(
        method="PUT",
        path="/v1/coupon-batches/{batch_id}/codes/{part}",
        endpoint=upload_coupon_codes,
        summary="Upload a part of a batch's codes. The same part again changes nothing. Coupons whose codes are there "
        "can be sent.",
        access=_OWNER,
        body=CodesBody,
        large_body=True,
        answer=PartUploaded,
        problems=(
            errors.UnknownCouponBatchError,
            errors.NotSenderError,
            errors.CodePartDiffersError,
            errors.NoCouponKeyError,
            errors.UnavailableError,
        ),
    ),
    Operation(
        method="POST",
        path="/v1/coupon-batches/{batch_id}/redemptions",
        endpoint=redeem_coupon_code,
        summary="Redeem a coupon by its code, for the batch's owner.",
        access=_OWNER,
        body=RedemptionBody,
        moves_money=True,
        answer=CouponEnd,
        status=201,
        problems=(
            errors.UnknownCouponBatchError,
            *_ENDING,
            errors.CouponNotValidYetError,
            errors.FrozenError,
            errors.NoCouponKeyError,
        ),
    ),
    Operation(
        method="GET",
        path="/v1/coupon-batches/{batch_id}/redemptions.csv",
        endpoint=list_redemptions,
        summary="A batch's redemptions as CSV, for its owner: the coupon's number, its holder, when, the ledger's "
        "entry, the note.",
        access=ANY_TOKEN,
        answer=None,
        media_type="text/csv",
        problems=(errors.UnknownCouponBatchError, errors.UnavailableError),
    ),
    Operation(
        method="GET",
        path="/v1/coupons/{coupon_id}",
        endpoint=get_coupon,
        summary="A coupon, for its holder and for the batch's owner. Only its holder sees the code.",
        access=ANY_TOKEN,
        answer=Coupon,
        problems=(errors.UnknownCouponError, errors.NoCouponKeyError, errors.UnavailableError),
    ),
    Operation(
        method="POST",
        path="/v1/coupons/{coupon_id}/redemption",
        endpoint=redeem_coupon,
        summary="Redeem a coupon, for the batch's owner. It is redeemed once, and only in its time.",
        access=_OWNER,
        body=CouponEndBody,
        body_required=False,
        moves_money=True,
        answer=CouponEnd,
        status=201,
        problems=(*_ENDING, errors.CouponNotValidYetError, errors.FrozenError),
    ),
    Operation(
        method="POST",
        path="/v1/coupons/{coupon_id}/void",
        endpoint=void_coupon,
        summary="Declare a coupon void, for the batch's owner.",
        access=_OWNER,
        body=CouponEndBody,
        body_required=False,
        moves_money=True,
        answer=CouponEnd,
        status=201,
        problems=_ENDING,
    ),
    Operation(
        method="POST",
        path="/v1/coupons/{coupon_id}/transfer",
        endpoint=transfer_coupon,
        summary="Pass a coupon on to another user, for its holder, if its batch allows it.",
        access=Access(("send", "act"), for_user=True),
        body=CouponTransferBody,
        moves_money=True,
        answer=CouponPassedOn,
        status=201,
        problems=(
            errors.UnknownCouponError,
            errors.CouponEndedError,
            errors.NotTransferableError,
            errors.FrozenError,
            errors.UnavailableError,
        ),
    ),
    Operation(
        method="GET",
        path="/v1/users/{user_id}/coupons",
        endpoint=list_coupons,
        summary="A user's coupons, those of the newest batches first. Only the user sees the codes.",
        access=ANY_TOKEN,
        query=CouponsQuery,
        answer=CouponsPage,
        problems=(errors.NoCouponKeyError, errors.UnavailableError),
    ),
    Operation(
        method="GET",
        path="/v1/users/{user_id}/coupon-batches",
        endpoint=list_coupon_batches,
        summary="A user's own batches of coupons, newest first.",
        access=ANY_TOKEN,
        query=NewestFirstQuery,
        answer=BatchesPage,
        problems=(errors.UnavailableError,),
    ),
)
