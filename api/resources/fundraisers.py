"""Fund-raising: fundraisers, gifts, matches, and receipts of gifts."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from api.answers import Answer, as_json
from api.auth import ANY_TOKEN, Access
from api.dispatch import Call, Operation
from api.failures import SENDING
from api.payloads import TEXT, NewestFirstQuery, Payload, UserId
from engine import errors
from engine.fundraising.giving import GiftTerms
from engine.fundraising.receipts import GiftReceipt
from engine.fundraising.terms import FundraiserTerms, Mode
from engine.fundraising.views import FundraisersPage, FundraiserView, GiftsPage


class FundraiserBody(Payload):
    """A fundraiser."""

    title: Annotated[str, Field(description="1 to 60 characters that people can read")]
    story: Annotated[
        str, Field(description="At most 5,000 characters that people can read; may have several lines")
    ] = ""
    goal_fen: Annotated[int, Field(description="The goal in fen, reached by what is given and matched")]
    ends_at_ms: Annotated[int, Field(description="When it ends, in milliseconds since 1970; 60 s to 90 days from now")]
    beneficiary: Annotated[UserId, Field(description="The user who gets what is raised")]
    mode: Annotated[
        Literal["all_or_nothing", "keep_what_comes"],
        Field(
            description="all_or_nothing: if the goal is missed, every gift goes back; keep_what_comes: the beneficiary "
            "gets whatever was given"
        ),
    ]


class GiftBody(Payload):
    """A gift: an amount from the wallet, or the share that the user has of a packet."""

    amount_fen: Annotated[
        int | None, Field(description="In fen, at most HONGBAO_GIFT_FEN_MAX; left out with packet_id")
    ] = None
    packet_id: Annotated[
        str | None,
        Field(max_length=64, description="Give on the share of this packet, once; not with amount_fen"),
    ] = None
    is_anonymous: Annotated[bool, Field(description="Whether the list of gifts leaves out the giver's name")] = False
    message: Annotated[str, Field(description=TEXT)] = ""


class MatchBody(Payload):
    """A match by a merchant. Its budget is paid at once, and what is left goes back in the end."""

    percent: Annotated[
        int, Field(description="How much it adds to each later gift, in percent of it, rounded down; 1 to 1000")
    ]
    budget_fen: Annotated[int, Field(description="The most that it adds in all, in fen")]


@dataclass(frozen=True, slots=True, kw_only=True)
class GiftAnswer:
    """A gift was given. ``matched_fen``: what merchants added. ``transfer_id``: its ledger entry."""

    gift_id: str
    fundraiser_id: str
    amount_fen: int
    matched_fen: int
    transfer_id: str
    given_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchAnswer:
    """A match was made. ``transfer_id``: the ledger entry of its budget."""

    match_id: str
    fundraiser_id: str
    percent: int
    budget_fen: int
    transfer_id: str
    created_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FundraiserAnswer:
    """A fundraiser was made, and takes gifts."""

    fundraiser_id: str
    created_at_ms: int
    ends_at_ms: int


async def make_fundraiser(call: Call) -> Answer:
    """Make a fundraiser."""
    body: FundraiserBody = call.body
    terms = FundraiserTerms(
        title=body.title,
        story=body.story,
        goal_fen=body.goal_fen,
        ends_at_ms=body.ends_at_ms,
        beneficiary=body.beneficiary,
        mode=Mode(body.mode),
    )
    made = await call.engine.fundraisers.make(
        call.caller.user, terms, idempotency_key=call.idempotency_key, request_hash=call.request_hash
    )
    answer = FundraiserAnswer(
        fundraiser_id=made.fundraiser_id, created_at_ms=made.created_at_ms, ends_at_ms=made.ends_at_ms
    )
    return as_json(answer, 201, *_replayed(is_replayed=made.replayed))


async def get_fundraiser(call: Call) -> Answer:
    """Return a fundraiser."""
    return as_json(await call.engine.fundraiser_views.get(call.path["fundraiser_id"]))


async def list_fundraisers(call: Call) -> Answer:
    """Return an owner's fundraisers, newest first."""
    user_id, query = call.path["user_id"], call.query
    call.caller.may_read(user_id)
    return as_json(await call.engine.fundraiser_views.of_owner(user_id, after=query.after, limit=query.limit))


async def end_fundraiser(call: Call) -> Answer:
    """End a fundraiser before its time."""
    await call.engine.fundraisers.end(call.path["fundraiser_id"], call.caller.user)
    return await get_fundraiser(call)


async def give(call: Call) -> Answer:
    """Give to a fundraiser."""
    body: GiftBody = call.body
    given = await call.engine.giving.give(
        call.path["fundraiser_id"],
        call.caller.user,
        GiftTerms(
            amount_fen=body.amount_fen,
            packet_id=body.packet_id,
            is_anonymous=body.is_anonymous,
            message=body.message,
        ),
        address=call.address,
        idempotency_key=call.idempotency_key,
        request_hash=call.request_hash,
    )
    answer = GiftAnswer(
        gift_id=given.gift_id,
        fundraiser_id=given.fundraiser_id,
        amount_fen=given.amount_fen,
        matched_fen=given.matched_fen,
        transfer_id=given.transfer_id,
        given_at_ms=given.given_at_ms,
    )
    return as_json(answer, 201, *_replayed(is_replayed=given.replayed))


async def list_gifts(call: Call) -> Answer:
    """Return a fundraiser's gifts, newest first."""
    caller, query = call.caller, call.query
    page = await call.engine.fundraiser_views.gifts(
        call.path["fundraiser_id"],
        reader=caller.user_id,
        sees_all=caller.sees_all,
        after=query.after,
        limit=query.limit,
    )
    return as_json(page)


async def match_gifts(call: Call) -> Answer:
    """Match the later gifts to a fundraiser."""
    body: MatchBody = call.body
    made = await call.engine.matching.match(
        call.path["fundraiser_id"],
        call.caller.user,
        percent=body.percent,
        budget_fen=body.budget_fen,
        address=call.address,
        idempotency_key=call.idempotency_key,
        request_hash=call.request_hash,
    )
    answer = MatchAnswer(
        match_id=made.match_id,
        fundraiser_id=made.fundraiser_id,
        percent=made.percent,
        budget_fen=made.budget_fen,
        transfer_id=made.transfer_id,
        created_at_ms=made.created_at_ms,
    )
    return as_json(answer, 201, *_replayed(is_replayed=made.replayed))


async def get_gift_receipt(call: Call) -> Answer:
    """Return the receipt of a gift to its giver or an admin."""
    caller = call.caller
    receipt = await call.engine.gift_receipts.of(
        call.path["fundraiser_id"], call.path["gift_id"], caller.user_id, sees_all=caller.sees_all
    )
    return as_json(receipt)


def _replayed(*, is_replayed: bool) -> list[tuple[bytes, bytes]]:
    return [(b"idempotency-replayed", b"true")] if is_replayed else []


_PAYER = Access(("send", "act"), for_user=True)
_KNOWN = (errors.UnknownFundraiserError, errors.UnavailableError)

ROUTES = (
    Operation(
        method="POST",
        path="/v1/fundraisers",
        endpoint=make_fundraiser,
        summary="Make a fundraiser: a goal, a deadline, and a beneficiary. It takes gifts at once.",
        access=_PAYER,
        body=FundraiserBody,
        moves_money=True,
        answer=FundraiserAnswer,
        status=201,
        problems=(errors.FrozenError, errors.TooManyFundraisersError, errors.UnavailableError),
    ),
    Operation(
        method="GET",
        path="/v1/fundraisers/{fundraiser_id}",
        endpoint=get_fundraiser,
        summary="A fundraiser: its state, what was given and matched, and the server's clock.",
        access=ANY_TOKEN,
        answer=FundraiserView,
        problems=_KNOWN,
    ),
    Operation(
        method="POST",
        path="/v1/fundraisers/{fundraiser_id}/end",
        endpoint=end_fundraiser,
        summary="End a fundraiser now, as if its time were over. A repeat changes nothing.",
        access=_PAYER,
        answer=FundraiserView,
        problems=(errors.NotSenderError, *_KNOWN),
    ),
    Operation(
        method="POST",
        path="/v1/fundraisers/{fundraiser_id}/gifts",
        endpoint=give,
        summary="Give to a fundraiser, from the wallet.",
        access=_PAYER,
        body=GiftBody,
        moves_money=True,
        answer=GiftAnswer,
        status=201,
        problems=(
            errors.UnknownFundraiserError,
            errors.FundraiserEndedError,
            errors.NotInLedgerError,
            errors.ShareGivenError,
            *SENDING,
        ),
    ),
    Operation(
        method="GET",
        path="/v1/fundraisers/{fundraiser_id}/gifts",
        endpoint=list_gifts,
        summary="A fundraiser's gifts, newest first. Who does not want to be named is named to themself and to admins.",
        access=ANY_TOKEN,
        query=NewestFirstQuery,
        answer=GiftsPage,
        problems=_KNOWN,
    ),
    Operation(
        method="GET",
        path="/v1/fundraisers/{fundraiser_id}/gifts/{gift_id}/receipt",
        endpoint=get_gift_receipt,
        summary="The receipt of a gift, for its giver: what was given, and what has become of it.",
        access=ANY_TOKEN,
        answer=GiftReceipt,
        problems=(errors.UnknownGiftError, *_KNOWN),
    ),
    Operation(
        method="POST",
        path="/v1/fundraisers/{fundraiser_id}/matches",
        endpoint=match_gifts,
        summary="Match the later gifts to a fundraiser, as a merchant, up to a budget that is paid at once.",
        access=_PAYER,
        body=MatchBody,
        moves_money=True,
        answer=MatchAnswer,
        status=201,
        problems=(
            errors.UnknownFundraiserError,
            errors.FundraiserEndedError,
            errors.NotMerchantError,
            errors.TooManyMatchesError,
            *SENDING,
        ),
    ),
    Operation(
        method="GET",
        path="/v1/users/{user_id}/fundraisers",
        endpoint=list_fundraisers,
        summary="A user's own fundraisers, newest first.",
        access=ANY_TOKEN,
        query=NewestFirstQuery,
        answer=FundraisersPage,
        problems=(errors.UnavailableError,),
    ),
)
