"""The lanes: where each is on both sides, why one does not serve, rebuildings, and the end of a stream."""

from typing import Any

from starlette.responses import Response

from api.console import filtering
from api.console.desk import Desk
from api.console.refusals import NotDoneError
from api.console.texts import marked
from api.console.visits import Page, Visit
from api.console.words import sayer
from engine.backoffice.lanes_now import lanes_now, peek
from engine.errors import HongbaoError, OperatorError
from engine.ledger.money import now_ms
from engine.operators.actions import Action, Arguments, Doing, Effect, always
from engine.persisting.lag import open_rows
from engine.recovery.history import recoveries
from engine.recovery.recovery import mend

RECOVER, FORCE = "lanes.recover", "lanes.force"
_PEEKED = 30


async def show(visit: Visit) -> Response:
    """All lanes, and the last rebuildings. ``lane``: also the end of that lane's stream."""
    desk, lane = visit.desk, filtering.whole(visit.query, "lane", most=999)
    engine = desk.engine
    lines = await lanes_now(desk.looks, engine.store, engine.stream)
    return await visit.page(
        "lanes.html",
        lines=lines,
        aside=await open_rows(desk.looks),
        found=await recoveries(desk.looks, lane=lane, after=visit.query.text("after") or None, limit=filtering.PAGE),
        lane=lane,
        line=next((line for line in lines if line.lane == lane), None),
        entries=[] if lane is None else await peek(desk.looks, engine.stream, lane, limit=_PEEKED),
        now_ms=await now_ms(desk.looks),
        backlog_max=desk.settings.backlog_max,
        say=sayer(visit.gettext),
    )


async def recover(visit: Visit) -> Response:
    """Rebuild a lane that Redis has lost."""
    lane = _lane(visit)
    filtering.check_typed(visit.form, str(lane))
    await visit.perform(RECOVER, {"lane": lane})
    return visit.redirect("/lanes", lane=lane, notice="done")


async def force(visit: Visit) -> Response:
    """Ask for a lane to be rebuilt although the ledger may be wrong instead."""
    lane = _lane(visit)
    filtering.check_typed(visit.form, str(lane))
    done = await visit.perform(FORCE, {"lane": lane})
    return visit.redirect("/lanes", lane=lane, notice="done" if done.approval_id is None else "waits")


def _lane(visit: Visit) -> int:
    lane = filtering.number_in(visit.path["lane"], "lane")
    if lane not in visit.desk.engine.lanes:
        raise filtering.refuse("lane", "must be a lane of the ledger")
    return lane


async def _recover(doing: Doing[Desk], *, is_forced: bool) -> dict[str, Any]:
    engine = doing.tools.engine
    try:
        done = await mend(engine.settings, engine.store, engine.stream, int(doing.arguments["lane"]), force=is_forced)
    except OperatorError as error:
        raise NotDoneError(str(error)) from None
    if done is None:
        return {"rebuilt": False}
    return {"rebuilt": True, "packets": done.packets, "claims": done.claims, "shares_left": done.shares_left}


async def _recover_gently(doing: Doing[Desk]) -> dict[str, Any]:
    return await _recover(doing, is_forced=False)


async def _recover_by_force(doing: Doing[Desk]) -> dict[str, Any]:
    return await _recover(doing, is_forced=True)


async def _effect(desk: Desk, arguments: Arguments) -> Effect:
    number = int(arguments["lane"])
    rows: Effect = [(marked("Lane"), str(number))]
    try:
        lines = await lanes_now(desk.looks, desk.engine.store, desk.engine.stream)
    except HongbaoError as error:
        return [*rows, (marked("State now"), str(error))]
    for line in lines:
        if line.lane == number:
            rows += [
                (marked("State now"), line.why_not or "–"),
                (marked("Position in Redis"), str(line.position)),
                (marked("Position in the ledger"), str(line.checkpoint)),
            ]
    return rows


ACTIONS = (
    Action(name=RECOVER, permission="lanes:recover", execute=_recover_gently),
    Action(name=FORCE, permission="lanes:force", execute=_recover_by_force, needs_two=always, effect=_effect),
)
_ONE = ("lane", "lane")
ROUTES = (
    Page("GET", "/lanes", show, "lanes:read"),
    Page(
        *("POST", "/lanes/{lane}/recover", recover, "lanes:recover"),
        action="rebuild a lane",
        subject=_ONE,
        needs_proof=True,
    ),
    Page(
        *("POST", "/lanes/{lane}/force", force, "lanes:force"),
        action="rebuild a lane by force",
        subject=_ONE,
        needs_proof=True,
    ),
)
