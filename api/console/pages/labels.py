"""Labels: what was sent to each, and its limit per day."""

from datetime import timedelta
from typing import Any

from starlette.responses import Response

from api.console import exports, filtering
from api.console.desk import Desk
from api.console.exports import Column
from api.console.visits import Page, Visit
from engine.calendar.china_time import begin_ms, day_of
from engine.ids import is_user_id
from engine.ledger.money import now_ms
from engine.operators.actions import Action, Doing
from engine.packets.lists import LABEL_PACKETS_MAX, LabelSums, PacketLists
from engine.paging import Page as Rows
from engine.risk.limits import label_limit_fen

LIMIT = "labels.put"
_RULE = "must be 1 to 64 of A-Z a-z 0-9 . _ : @ -"
_PAGE = 20
"""Fewer than other lists show: each line adds up the label's packets."""
_DAYS = 30
"""Packets of how many days are counted unless the filter says otherwise."""


async def show(visit: Visit) -> Response:
    """Labels in their order."""
    prefix, from_ms, after = await _wanted(visit)
    found = await PacketLists(visit.desk.looks).labels(prefix=prefix, from_ms=from_ms, after=after, limit=_PAGE)
    settings = visit.desk.settings
    limits = {row.label: label_limit_fen(settings, row.day_sent_fen_max) for row in found.rows}
    return await visit.page("labels.html", found=found, limits=limits, from_ms=from_ms, packets_max=LABEL_PACKETS_MAX)


async def _wanted(visit: Visit) -> tuple[str, int, str | None]:
    from_ms = filtering.from_ms(visit.query)
    if from_ms is None:
        from_ms = begin_ms(day_of(await now_ms(visit.desk.looks)) - timedelta(days=_DAYS - 1))
    return filtering.label(visit.query, "label") or "", from_ms, filtering.label(visit.query, "after")


async def export(visit: Visit) -> Response:
    """The same rows as a file."""
    lists, (prefix, from_ms, _after), _ = PacketLists(visit.desk.looks), await _wanted(visit), visit.gettext

    async def page(after: str | None, limit: int) -> Rows[LabelSums]:
        return await lists.labels(prefix=prefix, from_ms=from_ms, after=after, limit=min(limit, _PAGE))

    columns: list[Column[LabelSums]] = [
        exports.text(_("Label"), lambda row: row.label),
        exports.text(_("Packets"), lambda row: row.packets),
        exports.text(_("Shares"), lambda row: row.shares),
        exports.amount(_("Sent"), lambda row: row.sent_fen),
        exports.amount(_("Claimed"), lambda row: row.claimed_fen),
        exports.amount(_("Refunded"), lambda row: row.refunded_fen),
        exports.text(_("All claimed"), lambda row: row.exhausted),
        exports.text(_("Sold out after (ms)"), lambda row: row.sold_out_ms),
        exports.amount(_("Sent today"), lambda row: row.day_sent_fen),
    ]
    return await exports.file_of(visit, "labels", columns, page)


async def show_one(visit: Visit) -> Response:
    """A label's line in the list."""
    label = visit.path["label"]
    if not is_user_id(label):
        raise filtering.refuse("label", _RULE)
    return visit.redirect("/labels", label=label)


async def put_limit(visit: Visit) -> Response:
    """Set how much may be sent to a label per day."""
    label = visit.form.text("label")
    if not is_user_id(label):
        raise filtering.refuse("label", _RULE)
    await visit.perform(LIMIT, {"label": label, "day_sent_fen_max": filtering.fen(visit.form, "limit")})
    return visit.redirect("/labels", label=label, notice="done")


async def _put(doing: Doing[Desk]) -> dict[str, Any]:
    arguments = doing.arguments
    await doing.tools.engine.profiles.put_label(arguments["label"], arguments["day_sent_fen_max"], changed_by=doing.by)
    return {}


ACTIONS = (Action(name=LIMIT, permission="labels:write", execute=_put),)
ROUTES = (
    Page("GET", "/labels", show, "labels:read"),
    Page("GET", "/labels.csv", export, "labels:export", action="export labels", is_export=True),
    Page("GET", "/labels/{label}", show_one, "labels:read"),
    Page("POST", "/labels/limit", put_limit, "labels:write", action="limit a label", subject=("label", "label")),
)
