"""Campaigns (packet rain): the list, one while it goes on, and what an operator may do with it."""

import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import orjson
from starlette.responses import Response

from api.console import csv_files, filtering
from api.console.desk import Desk
from api.console.texts import marked
from api.console.visits import Page, Visit
from engine.calendar.china_time import CHINA
from engine.campaigns import lists
from engine.campaigns.lists import CampaignRow, Stage
from engine.campaigns.terms import Who
from engine.campaigns.views import CampaignState, CampaignView
from engine.errors import FieldProblem, InvalidFieldsError, UnknownCampaignError
from engine.operators.actions import Action, Arguments, Doing, Effect
from engine.operators.log import OK
from engine.text import decimal

READ, WRITE, EXPORT = "campaigns:read", "campaigns:write", "campaigns:export"
PAUSE, RESUME, EXTEND, END = "campaign.pause", "campaign.resume", "campaign.extend", "campaign.end"
STAGES = {
    Stage.TO_COME: (marked("to come"), ""),
    Stage.RUNNING: (marked("running"), "good"),
    Stage.PAUSED: (marked("paused"), "warn"),
    Stage.OVER: (marked("over"), ""),
    Stage.ENDED: (marked("ended early"), ""),
}
STATES = {
    CampaignState.LOADING: (marked("loading its shares"), "warn"),
    CampaignState.ARMED: (marked("armed"), "good"),
    CampaignState.RUNNING: (marked("running"), "good"),
    CampaignState.BETWEEN_WAVES: (marked("between waves"), ""),
    CampaignState.PAUSED: (marked("paused"), "warn"),
    CampaignState.OVER: (marked("over"), ""),
}
WHO = {
    Who.ANYONE: marked("anyone"),
    Who.LISTED: marked("those who are named"),
    Who.ADMITTED: marked("whoever brings an admission"),
}
_NUMBER = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_ROWS = 50


async def show(visit: Visit) -> Response:
    """The list, newest first or, of those whose names begin with a text, by name."""
    rows, after = await _listed(visit, visit.query.text("after") or None)
    return await visit.page("campaigns.html", rows=rows, next=after, stages=STAGES)


async def file(visit: Visit) -> Response:
    """The same as a file, with all its pages."""

    async def rows() -> AsyncIterator[csv_files.Row]:
        after = None
        while True:
            found, after = await _listed(visit, after)
            for row in found:
                yield _line(row)
            if after is None:
                return

    header = (
        *("campaign", "owner", "name", "state", "made", "starts", "ends", "waves", "shares"),
        *("money", "money_fen", "other_assets", "returned_shares", "returned", "returned_fen", "odds_millionths"),
    )
    return await visit.file("campaigns", header, rows())


async def show_one(visit: Visit) -> Response:
    """One campaign: its state, its waves, and what may be done with it."""
    return await visit.page("campaigns_one.html", **await _values(visit))


async def show_part(visit: Visit) -> Response:
    """The part of its page that asks for itself."""
    return await visit.page("campaigns_part.html", **await _values(visit))


async def proof(visit: Visit) -> Response:
    """Its proof as a file, once every wave has settled. Every operator may have it, as the API gives it to anyone."""
    campaign_id = _number(visit)
    body = orjson.dumps(await visit.desk.engine.campaign_views.proof(campaign_id))
    await visit.desk.log.write(visit.actor, visit.action, OK, subject=visit.subject(), about=visit.asked)
    headers = {"content-disposition": f'attachment; filename="campaign_{campaign_id}_proof.json"'}
    return Response(body, media_type="application/json", headers=headers)


async def pause(visit: Visit) -> Response:
    """Stop the grabs."""
    return await _change(visit, PAUSE, {})


async def resume(visit: Visit) -> Response:
    """Let them go on."""
    return await _change(visit, RESUME, {})


async def extend(visit: Visit) -> Response:
    """Let a wave last longer."""
    wave, text = visit.form.text("wave"), visit.form.text("ends_at")
    problems = [] if re.fullmatch(r"[1-9][0-9]?", wave) else [FieldProblem("wave", "must be the wave's number")]
    ends_at_ms = moment(text)
    if ends_at_ms is None:
        problems.append(FieldProblem("ends_at", "must be a time as 2026-12-01T20:00:00"))
    if problems:
        raise InvalidFieldsError(problems)
    return await _change(visit, EXTEND, {"wave": int(wave), "ends_at_ms": ends_at_ms})


async def end(visit: Visit) -> Response:
    """End it before its last wave. Its number must be typed: this cannot be undone."""
    if visit.form.text("typed") != _number(visit):
        raise InvalidFieldsError([FieldProblem("typed", "must be the campaign's number")])
    return await _change(visit, END, {})


def moment(text: str) -> int | None:
    """A time in China as browsers send it (2026-12-01T20:00, with or without seconds). None if it is none."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?", text, re.ASCII):
        return None
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=CHINA).timestamp()) * 1_000
    except (ValueError, OverflowError):
        return None


def percent(millionths: int) -> str:
    """Odds as a person reads them: 12.5 for 125,000."""
    return f"{millionths / 10_000:.4f}".rstrip("0").rstrip(".")


def local(at_ms: int) -> str:
    """The same the other way round."""
    return f"{datetime.fromtimestamp(at_ms // 1_000, CHINA):%Y-%m-%dT%H:%M:%S}"


async def _listed(visit: Visit, after: str | None) -> tuple[list[CampaignRow], str | None]:
    owner = visit.query.text("owner") or None
    name = filtering.beginning(visit.query, "name")
    rows, following = await lists.page(visit.desk.looks, owner=owner, name=name, after=after, limit=_ROWS)
    return list(rows), following


def _line(row: CampaignRow) -> csv_files.Row:
    """What came back is known, as on the page, once no part is open."""
    is_known = not row.open_parts
    shares, fen = (row.returned_shares, row.returned_fen) if is_known else (None, None)
    return (
        *(row.campaign_id, row.owner, row.name, row.stage.value, csv_files.at(row.created_at_ms)),
        *(csv_files.at(row.starts_at_ms), csv_files.at(row.ends_at_ms), row.waves, row.shares),
        *(csv_files.yuan(row.money_fen), row.money_fen, row.assets),
        *(shares, csv_files.yuan(fen), fen, row.odds_millionths),
    )


async def _values(visit: Visit) -> dict[str, Any]:
    engine, campaign_id = visit.desk.engine, _number(visit)
    view = await engine.campaign_views.get(campaign_id)
    (row,) = (await lists.page(visit.desk.looks, after=str(int(campaign_id) + 1), limit=1))[0]
    waves = [
        {
            "wave": wave,
            "state": _wave_state(view, wave.starts_at_ms, wave.ends_at_ms),
            "ends_at": local(wave.ends_at_ms),
            "is_over": wave.ends_at_ms <= view.now_ms,
            "prizes": [
                {
                    "prize": prize,
                    "total": decimal(prize.total_fen, prize.scale),
                    "returned": None if prize.returned_fen is None else decimal(prize.returned_fen, prize.scale),
                }
                for prize in wave.prizes
            ],
        }
        for wave in view.waves
    ]
    state = (marked("ended early"), "") if row.stage is Stage.ENDED else STATES[view.state]
    return {
        "view": view,
        "row": row,
        "state": state,
        "waves": waves,
        "who": WHO[view.who],
        "odds": percent(view.odds_millionths),
        "is_over": view.state is CampaignState.OVER,
        "is_paused": view.state is CampaignState.PAUSED or row.stage is Stage.PAUSED,
    }


def _wave_state(view: CampaignView, starts_at_ms: int, ends_at_ms: int) -> tuple[str, str]:
    if view.now_ms < starts_at_ms:
        return marked("to come"), ""
    return (marked("running"), "good") if view.now_ms < ends_at_ms else (marked("over"), "")


def _number(visit: Visit) -> str:
    campaign_id = visit.path["campaign_id"]
    if not _NUMBER.fullmatch(campaign_id):
        raise UnknownCampaignError("No campaign has this number.")
    return campaign_id


async def _change(visit: Visit, action: str, more: dict[str, Any]) -> Response:
    campaign_id = _number(visit)
    await visit.perform(action, {"campaign_id": campaign_id, **more})
    return visit.redirect(f"/campaigns/{campaign_id}", notice="done")


async def _owner(doing: Doing[Desk]) -> tuple[str, str]:
    """The campaign's number and its owner, for whom the operator acts."""
    campaign_id = str(doing.arguments["campaign_id"])
    view = await doing.tools.engine.campaign_views.get(campaign_id)
    return campaign_id, view.owner


async def _pause(doing: Doing[Desk]) -> dict[str, Any]:
    campaign_id, owner = await _owner(doing)
    await doing.tools.engine.campaigns.pause(campaign_id, owner, is_paused=True)
    return {"campaign_id": campaign_id}


async def _resume(doing: Doing[Desk]) -> dict[str, Any]:
    campaign_id, owner = await _owner(doing)
    await doing.tools.engine.campaigns.pause(campaign_id, owner, is_paused=False)
    return {"campaign_id": campaign_id}


async def _extend(doing: Doing[Desk]) -> dict[str, Any]:
    campaign_id, owner = await _owner(doing)
    wave, ends_at_ms = int(doing.arguments["wave"]), int(doing.arguments["ends_at_ms"])
    await doing.tools.engine.campaigns.extend(campaign_id, owner, wave, ends_at_ms)
    return {"campaign_id": campaign_id, "wave": wave, "ends_at_ms": ends_at_ms}


async def _end(doing: Doing[Desk]) -> dict[str, Any]:
    campaign_id, owner = await _owner(doing)
    await doing.tools.engine.campaigns.end(campaign_id, owner)
    return {"campaign_id": campaign_id}


async def _extend_effect(_desk: Desk, arguments: Arguments) -> Effect:
    return [
        (marked("Campaign"), str(arguments["campaign_id"])),
        (marked("Wave"), str(arguments["wave"])),
        (marked("Ends"), local(int(arguments["ends_at_ms"]))),
    ]


ACTIONS = (
    Action(name=PAUSE, permission=WRITE, execute=_pause),
    Action(name=RESUME, permission=WRITE, execute=_resume),
    Action(name=EXTEND, permission=WRITE, execute=_extend, effect=_extend_effect),
    Action(name=END, permission=WRITE, execute=_end),
)
_SUBJECT = ("campaign", "campaign_id")
ROUTES = (
    Page("GET", "/campaigns", show, READ),
    Page("GET", "/campaigns.csv", file, EXPORT, action="export campaigns", is_export=True),
    Page("GET", "/campaigns/{campaign_id}", show_one, READ, subject=_SUBJECT),
    Page("GET", "/campaigns/{campaign_id}/part", show_part, READ, subject=_SUBJECT, asks_by_itself=True),
    Page(
        *("GET", "/campaigns/{campaign_id}/proof.json", proof, READ),
        action="export a proof",
        subject=_SUBJECT,
        is_export=True,
    ),
    Page("POST", "/campaigns/{campaign_id}/pause", pause, WRITE, action=PAUSE, subject=_SUBJECT),
    Page("POST", "/campaigns/{campaign_id}/resume", resume, WRITE, action=RESUME, subject=_SUBJECT),
    Page("POST", "/campaigns/{campaign_id}/extend", extend, WRITE, action=EXTEND, subject=_SUBJECT),
    Page("POST", "/campaigns/{campaign_id}/end", end, WRITE, action=END, subject=_SUBJECT, needs_proof=True),
)
