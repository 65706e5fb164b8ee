"""Campaigns: packet rain in waves, and the grabs in them."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from api.answers import Answer, as_json
from api.auth import ANY_TOKEN, Access
from api.dispatch import Call, Operation
from api.failures import CLAIMING, SENDING
from api.paths import ROW_NUMBER_FORM
from api.payloads import BATCH_CLAIMS_MAX, AssetCode, NewestFirstQuery, Payload, UserId
from api.problems import detail_of, retry_after_s
from api.resources.packets import BATCH_REFUSALS
from engine import errors
from engine.campaigns.draws import MILLION
from engine.campaigns.grabbing import Grab
from engine.campaigns.terms import WAVES_MAX, CampaignTerms, WaveTerms, campaign_terms
from engine.campaigns.views import CampaignProof, CampaignsPage, CampaignView
from engine.errors import HongbaoError, LimitReachedError, UnknownCampaignError
from engine.records import SplitKind

_NUMBER = re.compile(ROW_NUMBER_FORM, re.ASCII)


class WaveBody(Payload):
    """A wave of a campaign."""

    starts_at_ms: Annotated[int, Field(description="When it starts, in milliseconds since 1970")]
    seconds: Annotated[int, Field(description="How long it lasts, 1 to 86400")]
    total_fen: Annotated[int, Field(description="What it gives in all, in the smallest unit")]
    count: Annotated[int, Field(description="In how many shares")]


class CampaignBody(Payload):
    """A campaign. All of its waves are paid for at once."""

    name: Annotated[str, Field(description="1 to 60 characters that people can read")]
    split: Annotated[Literal["lucky", "equal"], Field(description="lucky: shares differ; equal: all the same")]
    waves: Annotated[
        list[WaveBody], Field(min_length=1, max_length=WAVES_MAX, description="One after another, in their order")
    ]
    min_fen: Annotated[int | None, Field(ge=1, description="The smallest that a share can be")] = None
    max_fen: Annotated[int | None, Field(ge=1, description="The largest that a share can be")] = None
    odds_millionths: Annotated[
        int, Field(description="How many of a million users may win in a wave; the others are answered `missed`")
    ] = MILLION
    lanes: Annotated[
        int | None,
        Field(description="Over how many lanes each wave is spread; left out: all, if it has the shares"),
    ] = None
    asset: AssetCode = None


class GrabBody(Payload):
    """A grab needs no body. An empty object is the same as no body."""


class GrabItem(Payload):
    """One grab of a batch."""

    campaign_id: Annotated[str, Field(max_length=64, description="The campaign's number")]
    user_id: Annotated[UserId, Field(description="Who grabs")]


class GrabsBody(Payload):
    """Many grabs at once, by a backend."""

    grabs: Annotated[
        list[GrabItem], Field(min_length=1, max_length=BATCH_CLAIMS_MAX, description="Grabs of any campaigns and users")
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignAnswer:
    """A campaign was paid for. ``lanes``: over how many each wave is spread."""

    campaign_id: str
    total_fen: int
    count: int
    lanes: int
    commitment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GrabRefusal:
    """A grab of a batch that could not be decided, with the code that a single grab's problem would have."""

    campaign_id: str
    user_id: str
    code: str
    detail: str
    retry_after_s: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrabsAnswer:
    """One result per grab, in the same order."""

    results: list[Grab | GrabRefusal]


async def make_campaign(call: Call) -> Answer:
    """Pay for a campaign."""
    body: CampaignBody = call.body

    async def terms(now_ms: int) -> CampaignTerms:
        return campaign_terms(
            settings=call.front.settings,
            now_ms=now_ms,
            name=body.name,
            split=SplitKind(body.split),
            waves=[WaveTerms(**wave.model_dump()) for wave in body.waves],
            min_fen=body.min_fen,
            max_fen=body.max_fen,
            odds_millionths=body.odds_millionths,
            buckets=body.lanes,
            asset=(await call.engine.assets.named(body.asset)).code,
        )

    made = await call.engine.campaigns.make(
        call.caller.user,
        terms,
        address=call.address,
        idempotency_key=call.idempotency_key,
        request_hash=call.request_hash,
    )
    answer = CampaignAnswer(
        campaign_id=made.campaign_id,
        total_fen=made.total_fen,
        count=made.count,
        lanes=made.lanes,
        commitment=made.commitment,
    )
    return as_json(answer, 201, *([(b"idempotency-replayed", b"true")] if made.replayed else []))


async def get_campaign(call: Call) -> Answer:
    """Return a campaign."""
    return as_json(await call.engine.campaign_views.get(call.path["campaign_id"]))


async def list_campaigns(call: Call) -> Answer:
    """Return an owner's campaigns, newest first."""
    user_id, query = call.path["user_id"], call.query
    call.caller.may_read(user_id)
    return as_json(await call.engine.campaign_views.of_owner(user_id, after=query.after, limit=query.limit))


async def get_campaign_proof(call: Call) -> Answer:
    """Return what a campaign was committed to."""
    return as_json(await call.engine.campaign_views.proof(call.path["campaign_id"]))


async def pause_campaign(call: Call) -> Answer:
    """Stop the grabs of a campaign for a while."""
    await call.engine.campaigns.pause(call.path["campaign_id"], call.caller.user, is_paused=True)
    return await get_campaign(call)


async def resume_campaign(call: Call) -> Answer:
    """Let the grabs of a campaign go on."""
    await call.engine.campaigns.pause(call.path["campaign_id"], call.caller.user, is_paused=False)
    return await get_campaign(call)


async def end_campaign(call: Call) -> Answer:
    """End a campaign before its last wave."""
    await call.engine.campaigns.end(call.path["campaign_id"], call.caller.user)
    return await get_campaign(call)


async def grab(call: Call) -> Answer:
    """Tap once."""
    return as_json(await call.engine.grabbing.grab(call.path["campaign_id"], call.caller.user))


async def grab_many(call: Call) -> Answer:
    """Tap for many users at once, for a backend. Each grab has its own result, in order."""
    items: list[GrabItem] = call.body.grabs
    refused: dict[int, HongbaoError] = {
        place: UnknownCampaignError("No campaign has this number.")
        for place, item in enumerate(items)
        if not _NUMBER.fullmatch(item.campaign_id)
    }
    refused |= call.front.limits.claims_over_limit([item.user_id for item in items])
    asked = [(item.campaign_id, item.user_id) for place, item in enumerate(items) if place not in refused]
    result = iter(await call.engine.grabbing.grab_many(asked))
    results = [refused[place] if place in refused else next(result) for place in range(len(items))]
    return as_json({"results": [_result(item, found) for item, found in zip(items, results, strict=True)]})


def _result(item: GrabItem, found: Grab | HongbaoError) -> object:
    if isinstance(found, Grab):
        return found
    if not isinstance(found, (*BATCH_REFUSALS, UnknownCampaignError)):
        raise found
    return GrabRefusal(
        campaign_id=item.campaign_id,
        user_id=item.user_id,
        code=found.code,
        detail=detail_of(found),
        retry_after_s=retry_after_s(found),
        until_ms=found.until_ms if isinstance(found, LimitReachedError) else None,
    )


_OWNER = Access(("send", "act"), for_user=True)
_CHANGING = (errors.UnknownCampaignError, errors.NotSenderError, errors.UnavailableError)

ROUTES = (
    Operation(
        method="POST",
        path="/v1/campaigns",
        endpoint=make_campaign,
        summary="Make a campaign: a pool of shares that is given out in waves. All of it is paid at once from its "
        "owner's wallet, and what nobody wins goes back.",
        access=_OWNER,
        body=CampaignBody,
        large_body=True,
        moves_money=True,
        answer=CampaignAnswer,
        status=201,
        problems=(*SENDING,),
    ),
    Operation(
        method="GET",
        path="/v1/campaigns/{campaign_id}",
        endpoint=get_campaign,
        summary="A campaign: its state, its waves, how many shares are given, and the server's clock. It is at most a "
        "second old.",
        access=ANY_TOKEN,
        answer=CampaignView,
        problems=(errors.UnknownCampaignError, errors.UnavailableError),
    ),
    Operation(
        method="POST",
        path="/v1/campaigns/{campaign_id}/grabs",
        endpoint=grab,
        summary="Grab in a campaign. Losing is a normal answer; a repeat returns `already_claimed` with the amount.",
        access=Access(("claim", "act"), for_user=True),
        body=GrabBody,
        body_required=False,
        is_claim=True,
        answer=Grab,
        problems=(errors.UnknownCampaignError, *CLAIMING),
    ),
    Operation(
        method="POST",
        path="/v1/grabs",
        endpoint=grab_many,
        summary="Grab for many users at once. Results are in the order of the grabs.",
        access=Access(("act",)),
        body=GrabsBody,
        large_body=True,
        answer=GrabsAnswer,
    ),
    Operation(
        method="PUT",
        path="/v1/campaigns/{campaign_id}/pause",
        endpoint=pause_campaign,
        summary="Pause a campaign: within a second nobody grabs any more. Its waves end when they would have ended.",
        access=_OWNER,
        answer=CampaignView,
        problems=(errors.CampaignEndedError, *_CHANGING),
    ),
    Operation(
        method="DELETE",
        path="/v1/campaigns/{campaign_id}/pause",
        endpoint=resume_campaign,
        summary="Let a paused campaign go on.",
        access=_OWNER,
        answer=CampaignView,
        problems=(errors.CampaignEndedError, *_CHANGING),
    ),
    Operation(
        method="POST",
        path="/v1/campaigns/{campaign_id}/end",
        endpoint=end_campaign,
        summary="End a campaign. What is left goes back to its owner.",
        access=_OWNER,
        answer=CampaignView,
        problems=_CHANGING,
    ),
    Operation(
        method="GET",
        path="/v1/campaigns/{campaign_id}/proof",
        endpoint=get_campaign_proof,
        summary="A settled campaign's seeds and what they were committed to; `hongbao verify` needs nothing else.",
        access=ANY_TOKEN,
        answer=CampaignProof,
        problems=(errors.UnknownCampaignError, errors.NotSettledError, errors.UnavailableError),
    ),
    Operation(
        method="GET",
        path="/v1/users/{user_id}/campaigns",
        endpoint=list_campaigns,
        summary="A user's own campaigns, newest first.",
        access=ANY_TOKEN,
        query=NewestFirstQuery,
        answer=CampaignsPage,
        problems=(errors.UnavailableError,),
    ),
)
