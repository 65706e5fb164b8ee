"""Alerts: filtered, acknowledged, delivered again."""

from typing import Any

import orjson
from starlette.responses import Response

from api.console import assigning, exports, filtering
from api.console.desk import Desk
from api.console.exports import Column
from api.console.visits import Page, Visit
from api.console.words import choices, sayer
from engine.ledger.money import now_ms
from engine.operators.actions import Action, Doing
from engine.paging import Page as Rows
from engine.risk.alert_desk import AT_ONCE_MAX, KINDS, AlertDesk, AlertFilter, ListedAlert, assign_in

ACKNOWLEDGE, DELIVER, ASSIGN = "alerts.acknowledge", "alerts.deliver", "alerts.assign"
WRITE = "alerts:write"
_COUNTED_MAX = 10_001
_KIND_LENGTH_MAX = 64


async def show(visit: Visit) -> Response:
    """The list, the newest first."""
    alerts, say = AlertDesk(visit.desk.looks), sayer(visit.gettext)
    found = await alerts.page(_wanted(visit), after=visit.query.text("after") or None, limit=filtering.PAGE)
    return await visit.page(
        "alerts.html",
        found=found,
        waiting=await alerts.waiting(_COUNTED_MAX),
        now_ms=await now_ms(visit.desk.looks),
        say=say,
        kinds=choices(say, "alert", KINDS),
        assignees=await assigning.who_may(visit, WRITE),
        has_webhook=visit.desk.settings.webhook_url is not None,
    )


def _wanted(visit: Visit) -> AlertFilter:
    query = visit.query
    kind = query.text("kind") or None
    if kind is not None and (len(kind) > _KIND_LENGTH_MAX or not kind.isidentifier()):
        raise filtering.refuse("kind", "must be the name of a kind")
    return AlertFilter(
        kind=kind,
        user_id=filtering.user_id(query, "user"),
        is_waiting=filtering.yes_or_no(query, "waiting"),
        is_delivered=filtering.yes_or_no(query, "delivered"),
        from_ms=filtering.from_ms(query),
        before_ms=filtering.before_ms(query),
        **assigning.whose(visit)._asdict(),
    )


async def export(visit: Visit) -> Response:
    """The same rows as a file."""
    alerts, wanted, _ = AlertDesk(visit.desk.looks), _wanted(visit), visit.gettext

    async def page(after: str | None, limit: int) -> Rows[ListedAlert]:
        return await alerts.page(wanted, after=after, limit=limit)

    columns: list[Column[ListedAlert]] = [
        exports.text(_("Alert"), lambda row: row.alert_id),
        exports.text(_("Kind"), lambda row: row.kind),
        exports.text(_("User"), lambda row: row.user_id),
        exports.time(_("Time"), lambda row: row.at_ms),
        exports.text(_("Details"), lambda row: orjson.dumps(row.details).decode()),
        exports.time(_("Delivered"), lambda row: row.delivered_at_ms),
        exports.text(_("Tries"), lambda row: row.tries),
        exports.time(_("Acknowledged"), lambda row: row.acknowledged_at_ms),
        exports.text(_("Acknowledged by"), lambda row: row.acknowledged_by),
        exports.text(_("Reason"), lambda row: row.acknowledged_note),
        exports.text(_("Assigned to"), lambda row: row.assigned_to),
    ]
    return await exports.file_of(visit, "alerts", columns, page)


async def acknowledge(visit: Visit) -> Response:
    """Say that alerts were seen."""
    visit.did = (await visit.perform(ACKNOWLEDGE, {"ids": _ids(visit)})).result or {}
    return visit.redirect("/alerts", notice="done")


async def deliver(visit: Visit) -> Response:
    """Have alerts delivered once more."""
    visit.did = (await visit.perform(DELIVER, {"ids": _ids(visit)})).result or {}
    return visit.redirect("/alerts", notice="done")


async def assign(visit: Visit) -> Response:
    """Give alerts to an operator, or to nobody."""
    arguments = {"ids": _ids(visit), "to": assigning.wanted(visit)}
    visit.did = (await visit.perform(ASSIGN, arguments, needs_reason=False)).result or {}
    return visit.redirect("/alerts", notice="done")


def _ids(visit: Visit) -> list[str]:
    texts = visit.form.all("id")
    if not 1 <= len(texts) <= AT_ONCE_MAX:
        raise filtering.refuse("id", f"must be from 1 to {AT_ONCE_MAX} selected rows")
    return [str(number) for number in sorted({filtering.number_in(text, "id") for text in texts})]


async def _acknowledge(doing: Doing[Desk]) -> dict[str, Any]:
    ids = [int(number) for number in doing.arguments["ids"]]
    return {"acknowledged": await AlertDesk(doing.tools.engine.pool).acknowledge(ids, by=doing.by, note=doing.reason)}


async def _assign(doing: Doing[Desk]) -> dict[str, Any]:
    ids, to = [int(number) for number in doing.arguments["ids"]], await assigning.checked(doing, WRITE)
    return {"assigned": await assign_in(doing.connection, ids, to)}


async def _deliver(doing: Doing[Desk]) -> dict[str, Any]:
    ids, engine = [int(number) for number in doing.arguments["ids"]], doing.tools.engine
    return {"delivered": await AlertDesk(engine.pool).deliver_again(ids, engine.settings)}


ACTIONS = (
    Action(name=ACKNOWLEDGE, permission="alerts:write", execute=_acknowledge),
    Action(name=DELIVER, permission="alerts:write", execute=_deliver),
    Action(name=ASSIGN, permission=WRITE, execute=_assign),
)
ROUTES = (
    Page("GET", "/alerts", show, "alerts:read"),
    Page("GET", "/alerts.csv", export, "alerts:export", action="export alerts", is_export=True),
    Page("POST", "/alerts/acknowledge", acknowledge, "alerts:write", action="acknowledge alerts"),
    Page("POST", "/alerts/assign", assign, WRITE, action="assign alerts"),
    Page("POST", "/alerts/deliver", deliver, "alerts:write", action="deliver alerts again"),
)
