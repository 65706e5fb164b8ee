"""Campaigns: the list, one as it goes on, and what may be done with it. Making one is ``campaign_making``."""

from typing import Any

from starlette.responses import Response

from api.console.desk import Desk
from api.console.texts import marked
from api.console.visits import Page, Visit
from engine.campaigns.listing import campaigns
from engine.campaigns.views import CampaignState, CampaignView
from engine.errors import FieldProblem, InvalidFieldsError, UnknownCampaignError
from engine.ids import USER_ID_RULE, is_user_id
from engine.operators.actions import Action, Arguments, Doing, Effect
from engine.text import decimal

ROWS = 50
PAUSE, RESUME, EXTEND, END = (
    marked("pause a campaign"),
    marked("let a campaign go on"),
    marked("extend a wave"),
    marked("end a campaign"),
)
_STATES = {
    CampaignState.LOADING: (marked("loading"), "warn"),
    CampaignState.ARMED: (marked("armed"), "good"),
    CampaignState.RUNNING: (marked("running"), "good"),
    CampaignState.BETWEEN_WAVES: (marked("between waves"), ""),
    CampaignState.PAUSED: (marked("paused"), "warn"),
    CampaignState.OVER: (marked("over"), ""),
}
_MORE_S_MAX = 86_400


async def show_all(visit: Visit) -> Response:
    """All campaigns, or those of an owner."""
    owner = visit.query.text("owner") or None
    if owner is not None and not is_user_id(owner):
        raise InvalidFieldsError([FieldProblem("owner", USER_ID_RULE)])
    rows, following = await campaigns(
        visit.desk.looks, owner=owner, after=visit.query.text("after") or None, limit=ROWS
    )
    return await visit.page("campaigns.html", rows=rows, next=following)


async def show(visit: Visit) -> Response:
    """One campaign, with what may be done."""
    return await visit.page("campaigns_one.html", **await _values(visit))


async def watch(visit: Visit) -> Response:
    """The part of it that changes: the page asks for it every two seconds."""
    return await visit.page("campaigns_state.html", **await _values(visit))


async def _values(visit: Visit) -> dict[str, Any]:
    one = await visit.desk.engine.campaign_views.get(_number(visit))
    name, tone = _STATES[one.state]
    return {
        "one": one,
        "state_name": visit.gettext(name),
        "state_tone": tone,
        "odds": f"{one.odds_millionths / 10_000:g} %",
        "waves": [_wave(one, wave.wave) for wave in one.waves],
        "is_over": one.state is CampaignState.OVER,
    }


def _wave(one: CampaignView, number: int) -> dict[str, Any]:
    wave = one.waves[number - 1]
    claimed, count = (sum(getattr(prize, name) for prize in wave.prizes) for name in ("claimed_count", "count"))
    return {
        "wave": wave,
        "claimed_count": claimed,
        "count": count,
        "left": count - claimed,
        "is_now": wave.starts_at_ms <= one.now_ms < wave.ends_at_ms,
        "is_over": one.now_ms >= wave.ends_at_ms,
        "prizes": [
            {
                "prize": prize,
                "total": decimal(prize.total_fen, prize.scale),
                "returned": None if prize.returned_fen is None else decimal(prize.returned_fen, prize.scale),
            }
            for prize in wave.prizes
        ],
    }


async def change(visit: Visit) -> Response:
    """Pause it, let it go on, or end it."""
    campaign_id = _number(visit)
    if visit.row.action == END and visit.form.text("typed") != campaign_id:
        raise InvalidFieldsError([FieldProblem("typed", f"must be the campaign's number, {campaign_id}")])
    await visit.perform(visit.row.action, {"campaign_id": campaign_id}, subject=("campaign", campaign_id))
    return visit.redirect(f"/campaigns/{campaign_id}", notice="done")


async def extend(visit: Visit) -> Response:
    """Let a wave that is not over last longer."""
    campaign_id, wave = _number(visit), _whole(visit, "wave", 1_000)
    more_s = _whole(visit, "more_s", _MORE_S_MAX)
    one = await visit.desk.engine.campaign_views.get(campaign_id)
    if wave > len(one.waves):
        raise InvalidFieldsError([FieldProblem("wave", f"must be from 1 to {len(one.waves)}")])
    # The end itself, and not how much longer: a repeat must not extend it again.
    ends_at_ms = one.waves[wave - 1].ends_at_ms + more_s * 1_000
    arguments = {"campaign_id": campaign_id, "wave": wave, "ends_at_ms": ends_at_ms}
    await visit.perform(EXTEND, arguments, subject=("campaign", campaign_id))
    return visit.redirect(f"/campaigns/{campaign_id}", notice="done")


def _number(visit: Visit) -> str:
    text = visit.path["campaign_id"]
    if not (text.isdecimal() and text.isascii() and len(text) <= 18):
        raise UnknownCampaignError("There is no such campaign.")
    return text


def _whole(visit: Visit, name: str, most: int) -> int:
    text = visit.form.text(name)
    if not (text.isdecimal() and text.isascii() and len(text) <= 9 and 1 <= int(text) <= most):
        raise InvalidFieldsError([FieldProblem(name, f"must be a whole number from 1 to {most}")])
    return int(text)


async def _owner(desk: Desk, campaign_id: str) -> str:
    return (await desk.engine.campaign_views.get(campaign_id)).owner


async def _pause(doing: Doing[Desk], *, is_paused: bool) -> dict[str, Any]:
    campaign_id = str(doing.arguments["campaign_id"])
    owner = await _owner(doing.tools, campaign_id)
    await doing.tools.engine.campaigns.pause(campaign_id, owner, is_paused=is_paused)
    return {"campaign_id": campaign_id}


async def _do_pause(doing: Doing[Desk]) -> dict[str, Any]:
    return await _pause(doing, is_paused=True)


async def _do_resume(doing: Doing[Desk]) -> dict[str, Any]:
    return await _pause(doing, is_paused=False)


async def _do_end(doing: Doing[Desk]) -> dict[str, Any]:
    campaign_id = str(doing.arguments["campaign_id"])
    await doing.tools.engine.campaigns.end(campaign_id, await _owner(doing.tools, campaign_id))
    return {"campaign_id": campaign_id}


async def _do_extend(doing: Doing[Desk]) -> dict[str, Any]:
    campaign_id = str(doing.arguments["campaign_id"])
    wave, ends_at_ms = int(doing.arguments["wave"]), int(doing.arguments["ends_at_ms"])
    owner = await _owner(doing.tools, campaign_id)
    await doing.tools.engine.campaigns.extend(campaign_id, owner, wave, ends_at_ms)
    return {"campaign_id": campaign_id}


async def _effect(desk: Desk, arguments: Arguments) -> Effect:
    one = await desk.engine.campaign_views.get(str(arguments["campaign_id"]))
    return [(marked("Campaign"), f"{one.campaign_id} {one.name}"), (marked("Owner"), one.owner)]


ACTIONS = tuple(
    Action(name=name, permission="campaigns:write", execute=execute, effect=_effect)
    for name, execute in ((PAUSE, _do_pause), (RESUME, _do_resume), (EXTEND, _do_extend), (END, _do_end))
)
_SUBJECT = ("campaign", "campaign_id")
ROUTES = (
    Page("GET", "/campaigns", show_all, "campaigns:read"),
    Page("GET", "/campaigns/{campaign_id}", show, "campaigns:read"),
    Page("GET", "/campaigns/{campaign_id}/state", watch, "campaigns:read", asks_by_itself=True),
    *(
        Page("POST", f"/campaigns/{{campaign_id}}/{path}", change, "campaigns:write", action=name, subject=_SUBJECT)
        for path, name in (("pause", PAUSE), ("resume", RESUME), ("end", END))
    ),
    Page(*("POST", "/campaigns/{campaign_id}/extend", extend, "campaigns:write"), action=EXTEND, subject=_SUBJECT),
)
