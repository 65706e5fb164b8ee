"""Refunds that wait: due in Redis, ended and not settled in the ledger; closing one now."""

from typing import Any

from starlette.responses import Response

from api.console import exports, filtering
from api.console.desk import Desk
from api.console.exports import Column
from api.console.visits import Page, Visit
from api.console.words import sayer
from engine.backoffice.packet_file import PacketFiles
from engine.errors import UnknownPacketError
from engine.ids import is_packet_number
from engine.ledger.money import now_ms
from engine.operators.actions import Action, Doing
from engine.packets.refunds import Refunds, WaitingRefund, close_now
from engine.paging import Page as Rows

CLOSE = "refunds.close"


async def show(visit: Visit) -> Response:
    """What waits, the oldest first."""
    desk = visit.desk
    refunds = Refunds(desk.looks, desk.engine.store)
    found = await refunds.page(after=visit.query.text("after") or None, limit=filtering.PAGE)
    return await visit.page(
        "refunds.html",
        found=found,
        counts=await refunds.counts(),
        due=await refunds.due(desk.engine.lanes),
        now_ms=await now_ms(desk.looks),
        say=sayer(visit.gettext),
    )


async def export(visit: Visit) -> Response:
    """The ledger's rows as a file."""
    refunds, _ = Refunds(visit.desk.looks, visit.desk.engine.store), visit.gettext

    async def page(after: str | None, limit: int) -> Rows[WaitingRefund]:
        return await refunds.page(after=after, limit=limit)

    columns: list[Column[WaitingRefund]] = [
        exports.text(_("Packet"), lambda row: row.packet_id),
        exports.text(_("Sender"), lambda row: row.sender),
        exports.text(_("State"), lambda row: row.state.value),
        exports.text(_("Asset"), lambda row: row.asset),
        exports.amount(_("Custody"), lambda row: row.custody_fen, lambda row: row.scale),
        exports.amount(_("To be refunded"), lambda row: row.remaining_fen, lambda row: row.scale),
        exports.time(_("Ended"), lambda row: row.ended_at_ms),
        exports.text(_("In quarantine"), lambda row: row.quarantined),
    ]
    return await exports.file_of(visit, "refunds", columns, page)


async def close(visit: Visit) -> Response:
    """Close one packet whose time is over, and say what came of it."""
    packet_id = visit.path["packet_id"]
    if not is_packet_number(packet_id):
        raise UnknownPacketError("No packet has this number.")
    done = await visit.perform(CLOSE, {"packet_id": packet_id})
    result = done.result or {}
    visit.told = result["reply"]
    asset, scale = await PacketFiles(visit.desk.looks, visit.desk.engine.store).asset_of(packet_id)
    return await visit.page(
        "refunds_closed.html",
        packet_id=packet_id,
        result=result,
        asset=asset,
        scale=scale,
        say=sayer(visit.gettext),
    )


async def _close(doing: Doing[Desk]) -> dict[str, Any]:
    closed = await close_now(doing.tools.engine.store, doing.arguments["packet_id"])
    return {
        "reply": closed.reply.value,
        "remaining_count": closed.remaining_count,
        "remaining_fen": closed.remaining_fen,
    }


ACTIONS = (Action(name=CLOSE, permission="refunds:close", execute=_close),)
_ONE = ("packet", "packet_id")
ROUTES = (
    Page("GET", "/refunds", show, "refunds:read"),
    Page("GET", "/refunds.csv", export, "refunds:export", action="export refunds", is_export=True),
    Page(
        *("POST", "/refunds/{packet_id}/close", close, "refunds:close"),
        action="close a packet",
        subject=_ONE,
        needs_proof=True,
    ),
)
