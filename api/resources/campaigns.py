"""Campaigns: packet rain in waves, and the grabs in them."""

import re
import time
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
from engine.access.admissions import Admission
from engine.campaigns.draws import MILLION
from engine.campaigns.grabbing import Asked, Grab
from engine.campaigns.terms import (
    GUESTS_MAX,
    PRIZES_MAX,
    WAVES_MAX,
    WINS_MAX,
    CampaignTerms,
    Entry,
    PrizeTerms,
    WaveTerms,
    Who,
    campaign_terms,
)
from engine.campaigns.views import CampaignProof, CampaignsPage, CampaignView
from engine.errors import FieldProblem, HongbaoError, InvalidFieldsError, LimitReachedError, UnknownCampaignError
from engine.records import SplitKind

_NUMBER = re.compile(ROW_NUMBER_FORM, re.ASCII)


class PrizeBody(Payload):
    """A part of a wave's pool: shares of one asset."""

    total_fen: Annotated[int, Field(description="What it gives in all, in the smallest unit")]
    count: Annotated[int, Field(description="In how many shares")]
    split: Annotated[Literal["lucky", "equal"], Field(description="lucky: shares differ; equal: all the same")]
    min_fen: Annotated[int | None, Field(ge=1, description="The smallest that a share can be")] = None
    max_fen: Annotated[int | None, Field(ge=1, description="The largest that a share can be")] = None
    asset: AssetCode = None


class WaveBody(Payload):
    """A wave of a campaign."""

    starts_at_ms: Annotated[int, Field(description="When it starts, in milliseconds since 1970")]
    seconds: Annotated[int, Field(description="How long it lasts, 1 to 86400")]
    prizes: Annotated[
        list[PrizeBody],
        Field(min_length=1, max_length=PRIZES_MAX, description="What it gives: each as often as it has shares"),
    ]


class CampaignBody(Payload):
    """A campaign. All of its waves are paid for at once."""

    name: Annotated[str, Field(description="1 to 60 characters that people can read")]
    waves: Annotated[
        list[WaveBody], Field(min_length=1, max_length=WAVES_MAX, description="One after another, in their order")
    ]
    odds_millionths: Annotated[
        int, Field(description="How many of a million users may win in a wave; the others are answered `missed`")
    ] = MILLION
    lanes: Annotated[int | None, Field(description="Over how many lanes each prize is spread; left out: all")] = None
    who: Annotated[
        Literal["anyone", "listed", "admitted"],
        Field(description="Who may grab: listed: `guests`; admitted: whoever brings an admission"),
    ] = "anyone"
    guests: Annotated[
        list[UserId], Field(default_factory=list, max_length=GUESTS_MAX, description="The users of `listed`")
    ]
    label: Annotated[
        str | None, Field(max_length=64, description="With `admitted`: also whoever brings an admission of this group")
    ] = None
    wave_wins_max: Annotated[int, Field(description="How many shares a user wins in a wave at most")] = 1
    wins_max: Annotated[
        int | None, Field(description="How many shares a user wins in all at most; left out: no bound")
    ] = None
    interval_ms: Annotated[int, Field(description="The least time between two grabs of a user")] = 0


class GrabBody(Payload):
    """Without an admission, an empty object is the same as no body."""

    admission: Annotated[
        str | None, Field(max_length=4_096, description="What `grants` has answered, or a backend has signed")
    ] = None


class ExtensionBody(Payload):
    """A wave's new end."""

    ends_at_ms: Annotated[int, Field(ge=1, description="When it ends: not before its end until now")]


class WinsBody(Payload):
    """What a game's result is worth."""

    wins: Annotated[int, Field(ge=1, le=WINS_MAX, description="How many shares more the user may win")]


class GrabItem(Payload):
    """One grab of a batch."""

    campaign_id: Annotated[str, Field(max_length=64, description="The campaign's number")]
    user_id: Annotated[UserId, Field(description="Who grabs")]
    wins_max: Annotated[
        int | None,
        Field(ge=1, le=WINS_MAX, description="How many shares they may win in all, where `who` is admitted"),
    ] = None


class GrabsBody(Payload):
    """Many grabs at once, by a backend."""

    grabs: Annotated[
        list[GrabItem], Field(min_length=1, max_length=BATCH_CLAIMS_MAX, description="Grabs of any campaigns and users")
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignAnswer:
    """A campaign was paid for. ``lanes``: over how many each prize is spread."""

    campaign_id: str
    count: int
    lanes: int
    commitment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantAnswer:
    """A user may win ``wins`` shares in all. ``admission``: they bring it with each grab, until ``expires_at_ms``."""

    campaign_id: str
    user_id: str
    wins: int
    admission: str
    expires_at_ms: int


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
            waves=[await _wave(call, wave, place) for place, wave in enumerate(body.waves)],
            odds_millionths=body.odds_millionths,
            lanes=body.lanes,
            entry=Entry(
                who=Who(body.who),
                wave_wins_max=body.wave_wins_max,
                wins_max=body.wins_max,
                interval_ms=body.interval_ms,
                guests=tuple(body.guests),
                label=body.label,
            ),
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
        count=made.count,
        lanes=made.lanes,
        commitment=made.commitment,
    )
    return as_json(answer, 201, *([(b"idempotency-replayed", b"true")] if made.replayed else []))


async def _wave(call: Call, wave: WaveBody, place: int) -> WaveTerms:
    prizes = []
    for prize_place, prize in enumerate(wave.prizes):
        try:
            asset = (await call.engine.assets.named(prize.asset)).code
        except InvalidFieldsError as error:
            where = f"waves[{place}].prizes[{prize_place}]"
            raise InvalidFieldsError(
                [FieldProblem(f"{where}.{problem.field}", problem.message) for problem in error.problems]
            ) from None
        of_body = prize.model_dump() | {"split": SplitKind(prize.split), "asset": asset}
        prizes.append(PrizeTerms(**of_body))
    return WaveTerms(starts_at_ms=wave.starts_at_ms, seconds=wave.seconds, prizes=tuple(prizes))


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


async def extend_wave(call: Call) -> Answer:
    """Let a wave last longer."""
    campaign_id, wave = call.path["campaign_id"], int(call.path["wave"])
    await call.engine.campaigns.extend(campaign_id, call.caller.user, wave, call.body.ends_at_ms)
    return await get_campaign(call)


async def grant_wins(call: Call) -> Answer:
    """Let a user win more shares, and sign their admission."""
    granted = await call.engine.campaigns.grant(
        call.path["campaign_id"],
        call.caller.user,
        call.body.wins,
        idempotency_key=call.idempotency_key,
        request_hash=call.request_hash,
    )
    latest_s = int(time.time()) + call.front.settings.token_ttl_s_max
    expires_at_s = min(granted.ends_at_ms // 1000 + 1, latest_s)
    answer = GrantAnswer(
        campaign_id=granted.campaign_id,
        user_id=granted.user_id,
        wins=granted.wins,
        admission=call.front.admissions.sign(
            granted.user_id, granted.campaign_id, wins_max=granted.wins, expires_at_s=expires_at_s
        ),
        expires_at_ms=expires_at_s * 1000,
    )
    return as_json(answer, 201, *([(b"idempotency-replayed", b"true")] if granted.replayed else []))


async def grab(call: Call) -> Answer:
    """Tap once."""
    body: GrabBody | None = call.body
    text = None if body is None else body.admission
    admission = None if text is None else call.front.admissions.read(text)
    return as_json(await call.engine.grabbing.grab(call.path["campaign_id"], call.caller.user, admission))


async def grab_many(call: Call) -> Answer:
    """Tap for many users at once, for a backend. Each grab has its own result, in order."""
    items: list[GrabItem] = call.body.grabs
    refused: dict[int, HongbaoError] = {
        place: UnknownCampaignError("No campaign has this number.")
        for place, item in enumerate(items)
        if not _NUMBER.fullmatch(item.campaign_id)
    }
    refused |= call.front.limits.claims_over_limit([item.user_id for item in items])
    asked = [_asked(item) for place, item in enumerate(items) if place not in refused]
    result = iter(await call.engine.grabbing.grab_many(asked))
    results = [refused[place] if place in refused else next(result) for place in range(len(items))]
    return as_json({"results": [_result(item, found) for item, found in zip(items, results, strict=True)]})


def _asked(item: GrabItem) -> Asked:
    """A tap for a user whom the backend admits itself: it could as well have an admission signed."""
    admitted = Admission(user_id=item.user_id, campaign_id=item.campaign_id, wins_max=item.wins_max)
    return Asked(item.campaign_id, item.user_id, admitted)


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
        problems=(errors.UnknownCampaignError, errors.NotInvitedError, *CLAIMING),
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
        method="PUT",
        path="/v1/campaigns/{campaign_id}/waves/{wave}",
        endpoint=extend_wave,
        summary="Let a wave that is not over last longer, until the next one starts at most. Every process knows of it "
        "within a second.",
        access=_OWNER,
        body=ExtensionBody,
        answer=CampaignView,
        problems=(errors.CampaignEndedError, *_CHANGING),
    ),
    Operation(
        method="POST",
        path="/v1/campaigns/{campaign_id}/grants",
        endpoint=grant_wins,
        summary="Let a user win more shares in a campaign that needs admissions, as the result of a game may be. The "
        "answer has their admission.",
        access=Access(("act",), for_user=True),
        body=WinsBody,
        moves_money=True,
        answer=GrantAnswer,
        status=201,
        problems=(errors.UnknownCampaignError, errors.CampaignEndedError, errors.UnavailableError),
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
