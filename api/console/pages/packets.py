"""Packets: the list by state, sender, label, time and amount; one packet with everything that is known of it."""

from typing import Any

from starlette.responses import Response

from api.console import exports, filtering
from api.console.desk import Desk
from api.console.exports import Column
from api.console.visits import Page, Visit
from api.console.words import choices, sayer
from engine.backoffice.notes import Notes, SubjectKind, add_in
from engine.backoffice.packet_file import PacketFiles
from engine.errors import UnknownPacketError
from engine.ids import is_packet_number
from engine.ledger.money import now_ms
from engine.operators.actions import Action, Doing
from engine.packets.lists import ListedPacket, PacketFilter, PacketLists
from engine.paging import Page as Rows
from engine.records import ClaimRow, PacketState

NOTE = "packets.note"


async def show(visit: Visit) -> Response:
    """The list, the newest first."""
    say = sayer(visit.gettext)
    found = await PacketLists(visit.desk.looks).page(
        wanted(visit), after=visit.query.text("after") or None, limit=filtering.PAGE
    )
    return await visit.page("packets.html", found=found, say=say, states=choices(say, "packet", PacketState))


def wanted(visit: Visit) -> PacketFilter:
    """The filter in the query. Raises InvalidFieldsError."""
    query = visit.query
    state = filtering.choice(query, "state", PacketState)
    return PacketFilter(
        states=() if state is None else (state,),
        sender=filtering.user_id(query, "sender"),
        label=filtering.label(query, "label"),
        from_ms=filtering.from_ms(query),
        before_ms=filtering.before_ms(query),
        least_fen=filtering.fen(query, "least"),
        most_fen=filtering.fen(query, "most"),
    )


async def export(visit: Visit) -> Response:
    """The same rows as a file."""
    lists, asked, _ = PacketLists(visit.desk.looks), wanted(visit), visit.gettext

    async def page(after: str | None, limit: int) -> Rows[ListedPacket]:
        return await lists.page(asked, after=after, limit=limit)

    columns: list[Column[ListedPacket]] = [
        exports.text(_("Packet"), lambda row: row.packet_id),
        exports.text(_("Sender"), lambda row: row.sender),
        exports.text(_("Kind"), lambda row: row.purpose.value),
        exports.text(_("Label"), lambda row: row.label),
        exports.text(_("State"), lambda row: row.state.value),
        exports.text(_("Asset"), lambda row: row.asset),
        exports.amount(_("Total"), lambda row: row.total_fen, lambda row: row.scale),
        exports.text(_("Shares"), lambda row: row.count),
        exports.time(_("Sent"), lambda row: row.created_at_ms),
        exports.time(_("Ended"), lambda row: row.ended_at_ms),
        exports.time(_("Settled"), lambda row: row.settled_at_ms),
        exports.text(_("Shares refunded"), lambda row: row.remaining_count),
        exports.amount(_("Refunded"), lambda row: row.remaining_fen, lambda row: row.scale),
    ]
    return await exports.file_of(visit, "packets", columns, page)


async def show_one(visit: Visit) -> Response:
    """One packet."""
    packet_id, files = visit.path["packet_id"], _files(visit.desk)
    told = await files.one(packet_id)
    notes = await Notes(visit.desk.looks).page(SubjectKind.PACKET, packet_id, after=None, limit=filtering.PAGE)
    return await visit.page(
        "packets_one.html",
        file=told,
        facts=told.facts,
        claims=await files.claims(packet_id, after=visit.query.text("after") or None, limit=filtering.PAGE),
        notes=notes.rows,
        now_ms=await now_ms(visit.desk.looks),
        say=sayer(visit.gettext),
    )


async def export_claims(visit: Visit) -> Response:
    """A packet's claims in the ledger as a file."""
    packet_id, files, _ = visit.path["packet_id"], _files(visit.desk), visit.gettext
    if not is_packet_number(packet_id):
        raise UnknownPacketError("No packet has this number.")

    async def page(after: str | None, limit: int) -> Rows[ClaimRow]:
        return await files.claims(packet_id, after=after, limit=limit)

    asset, scale = await files.asset_of(packet_id)
    columns: list[Column[ClaimRow]] = [
        exports.text(_("Packet"), lambda _row: packet_id),
        exports.text(_("Asset"), lambda _row: asset),
        exports.text(_("User"), lambda row: row.user_id),
        exports.text(_("Share"), lambda row: row.slot),
        exports.amount(_("Amount"), lambda row: row.amount_fen, lambda _row: scale),
        exports.time(_("Claimed"), lambda row: row.claimed_at_ms),
    ]
    return await exports.file_of(visit, f"claims_{packet_id}", columns, page, rows_max=exports.OF_ONE_MAX)


async def add_note(visit: Visit) -> Response:
    """Keep a note about a packet."""
    packet_id = visit.path["packet_id"]
    if not is_packet_number(packet_id):
        raise UnknownPacketError("No packet has this number.")
    await visit.perform(NOTE, {"packet_id": packet_id, "note": note_of(visit)}, needs_reason=False)
    return visit.redirect(f"/packets/{packet_id}", notice="saved")


def note_of(visit: Visit) -> str:
    """The note in a form, with line ends as we keep them."""
    return visit.form.text("note").replace("\r\n", "\n")


def _files(desk: Desk) -> PacketFiles:
    return PacketFiles(desk.looks, desk.engine.store)


async def _note(doing: Doing[Desk]) -> dict[str, Any]:
    arguments = doing.arguments
    number = await add_in(doing.connection, SubjectKind.PACKET, arguments["packet_id"], arguments["note"], by=doing.by)
    return {"note_id": number}


ACTIONS = (Action(name=NOTE, permission="notes:write", execute=_note),)
_ONE = ("packet", "packet_id")
ROUTES = (
    Page("GET", "/packets", show, "packets:read"),
    Page("GET", "/packets.csv", export, "packets:export", action="export packets", is_export=True),
    Page(
        "GET", "/packets/{packet_id}", show_one, "packets:read", action="look at a packet", subject=_ONE, is_look=True
    ),
    Page(
        "GET",
        "/packets/{packet_id}/claims.csv",
        export_claims,
        "packets:export",
        action="export claims",
        subject=_ONE,
        is_export=True,
    ),
    Page("POST", "/packets/{packet_id}/notes", add_note, "notes:write", action="note", subject=_ONE),
)
