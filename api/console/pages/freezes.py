"""Freezes in force over all users; one freeze, and its lifting."""

from typing import Any

from starlette.responses import Response

from api.console import exports, filtering
from api.console.desk import Desk
from api.console.exports import Column
from api.console.texts import marked
from api.console.visits import Page, Visit
from api.console.words import choices, sayer
from engine.ledger.money import now_ms
from engine.operators.actions import Action, Arguments, Doing, Effect, by_both, is_kept_of
from engine.paging import Page as Rows
from engine.records import FreezeScope
from engine.risk.freeze_lists import FreezeFilter, FreezeLists, FrozenBy, ListedFreeze, lift_one, lifted_as
from engine.risk.freezes import Freezes

LIFT = "freezes.lift"


async def show(visit: Visit) -> Response:
    """The list, the newest first."""
    say = sayer(visit.gettext)
    found = await FreezeLists(visit.desk.looks).page(
        _wanted(visit), after=visit.query.text("after") or None, limit=filtering.PAGE
    )
    return await visit.page(
        "freezes.html",
        found=found,
        say=say,
        scopes=choices(say, "scope", FreezeScope),
        makers=choices(say, "by", FrozenBy),
        now_ms=await now_ms(visit.desk.looks),
    )


def _wanted(visit: Visit) -> FreezeFilter:
    query = visit.query
    return FreezeFilter(
        scope=filtering.choice(query, "scope", FreezeScope),
        by=filtering.choice(query, "by", FrozenBy),
        user_id=filtering.user_id(query, "user"),
    )


async def export(visit: Visit) -> Response:
    """The same rows as a file."""
    lists, wanted, _ = FreezeLists(visit.desk.looks), _wanted(visit), visit.gettext

    async def page(after: str | None, limit: int) -> Rows[ListedFreeze]:
        return await lists.page(wanted, after=after, limit=limit)

    columns: list[Column[ListedFreeze]] = [
        exports.text(_("Freeze"), lambda row: row.freeze_id),
        exports.text(_("User"), lambda row: row.user_id),
        exports.text(_("What"), lambda row: row.scope.value),
        exports.text(_("Reason"), lambda row: row.reason),
        exports.text(_("By"), lambda row: row.frozen_by),
        exports.time(_("Since"), lambda row: row.frozen_at_ms),
        exports.time(_("Until"), lambda row: row.until_ms),
    ]
    return await exports.file_of(visit, "freezes", columns, page)


async def show_one(visit: Visit) -> Response:
    """One freeze, and what stays in force without it."""
    number, desk = filtering.number_in(visit.path["freeze_id"], "freeze_id"), visit.desk
    user_id, freeze = await FreezeLists(desk.looks).one(number)
    others = [
        one
        for one in await Freezes(desk.looks, desk.engine.store).of(user_id)
        if one.lifted_at_ms is None and one.freeze_id != number
    ]
    return await visit.page(
        "freezes_one.html",
        user_id=user_id,
        freeze=freeze,
        others=others,
        by_rule=FrozenBy.of(freeze.frozen_by) is FrozenBy.RULE,
        say=sayer(visit.gettext),
    )


async def lift(visit: Visit) -> Response:
    """Lift one freeze."""
    number = filtering.number_in(visit.path["freeze_id"], "freeze_id")
    user_id, freeze = await FreezeLists(visit.desk.looks).one(number)
    arguments = {"freeze_id": str(number), "user_id": user_id, "frozen_by": freeze.frozen_by}
    done = await visit.perform(LIFT, arguments, subject=("user", user_id))
    return visit.redirect(f"/freezes/{number}", notice="done" if done.approval_id is None else "waits")


async def _needs_two(_desk: Desk, arguments: Arguments) -> bool:
    return FrozenBy.of(arguments["frozen_by"]) is FrozenBy.RULE


async def _lift(doing: Doing[Desk]) -> dict[str, Any]:
    engine = doing.tools.engine
    everywhere = await lift_one(
        engine.pool, engine.freezes, int(doing.arguments["freeze_id"]), reason=doing.reason, lifted_by=by_both(doing)
    )
    return {"everywhere": everywhere}


async def _was_done(doing: Doing[Desk]) -> bool:
    return is_kept_of(doing, *await lifted_as(doing.connection, int(doing.arguments["freeze_id"])))


async def _effect(desk: Desk, arguments: Arguments) -> Effect:
    user_id, freeze = await FreezeLists(desk.looks).one(int(arguments["freeze_id"]))
    return [
        (marked("User"), user_id),
        (marked("What"), freeze.scope.value),
        (marked("Reason"), freeze.reason),
        (marked("By"), freeze.frozen_by),
    ]


ACTIONS = (
    Action(
        name=LIFT, permission="freezes:write", execute=_lift, needs_two=_needs_two, effect=_effect, was_done=_was_done
    ),
)
_ONE = ("freeze", "freeze_id")
ROUTES = (
    Page("GET", "/freezes", show, "freezes:read"),
    Page("GET", "/freezes.csv", export, "freezes:export", action="export freezes", is_export=True),
    Page("GET", "/freezes/{freeze_id}", show_one, "freezes:read", subject=_ONE),
    Page(
        *("POST", "/freezes/{freeze_id}/lift", lift, "freezes:write"),
        action="lift a freeze",
        subject=_ONE,
        needs_proof=True,
    ),
)
