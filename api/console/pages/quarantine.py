"""Changes that broke a rule of the ledger: look, try without doing, retry, write off."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from starlette.responses import Response

from api.console import exports, filtering
from api.console.desk import Desk
from api.console.exports import Column
from api.console.refusals import NotDoneError
from api.console.texts import marked
from api.console.visits import Page, Visit
from api.console.words import choices, sayer
from engine.errors import UnavailableError
from engine.ledger.money import now_ms
from engine.operators.actions import Action, Arguments, Doing, Effect, always, by_both, is_kept_of
from engine.paging import Page as Rows
from engine.persisting.quarantine import AT_ONCE_MAX, DRY_RUN_MAX, Aside, DryRun, Quarantine, written_off
from engine.persisting.quarantine_lists import KINDS, QuarantineFilter, QuarantineLists, written_off_as

RETRY, WRITE_OFF = "quarantine.retry", "quarantine.write_off"
_COUNTED_MAX = 10_001
_STATES = {"open": True, "resolved": False, "all": None}


async def show(visit: Visit) -> Response:
    """The list, the oldest first."""
    lists, wanted = QuarantineLists(visit.desk.looks), _wanted(visit)
    say = sayer(visit.gettext)
    found = await lists.page(wanted, after=visit.query.text("after") or None, limit=filtering.PAGE)
    return await visit.page(
        "quarantine.html",
        found=found,
        totals=await lists.totals(_COUNTED_MAX),
        now_ms=await now_ms(visit.desk.looks),
        say=say,
        kinds=choices(say, "quarantine", KINDS),
    )


async def export(visit: Visit) -> Response:
    """The same rows as a file."""
    lists, wanted, _ = QuarantineLists(visit.desk.looks), _wanted(visit), visit.gettext

    async def page(after: str | None, limit: int) -> Rows[Aside]:
        return await lists.page(wanted, after=after, limit=limit)

    columns: list[Column[Aside]] = [
        exports.text(_("Row"), lambda row: row.quarantine_id),
        exports.text(_("Lane"), lambda row: row.lane),
        exports.text(_("Position"), lambda row: row.position),
        exports.text(_("Packet"), lambda row: row.packet_id),
        exports.text(_("Change"), lambda row: row.kind),
        exports.text(_("User"), lambda row: row.user_id),
        exports.text(_("Asset"), lambda row: row.asset),
        exports.amount(_("Amount"), lambda row: row.amount_fen, lambda row: row.scale),
        exports.time(_("Time"), lambda row: row.at_ms),
        exports.text(_("Rule that it breaks"), lambda row: row.reason),
        exports.text(_("Resolution"), lambda row: row.resolution),
        exports.time(_("Resolved"), lambda row: row.resolved_at_ms),
        exports.text(_("By"), lambda row: row.resolved_by),
        exports.text(_("Reason"), lambda row: row.resolution_reason),
        exports.amount(_("Moved"), lambda row: row.moved_fen, lambda row: row.scale),
    ]
    return await exports.file_of(visit, "quarantine", columns, page)


async def show_one(visit: Visit) -> Response:
    """One row, with what a retry and a write-off would do now."""
    row = await _row(visit)
    retry: DryRun | None = None
    write_off: DryRun | None = None
    if row.resolution is None and visit.may("quarantine:retry"):
        (retry,) = await _dry_run(visit.desk, [row.quarantine_id])
        (write_off,) = await _dry_run(visit.desk, [row.quarantine_id], writes_off=True)
    return await visit.page(
        "quarantine_one.html",
        row=row,
        retry=retry,
        write_off=write_off,
        now_ms=await now_ms(visit.desk.looks),
        say=sayer(visit.gettext),
    )


async def show_retry(visit: Visit) -> Response:
    """What retrying the selected rows, or all, would do: the same transaction, rolled back."""
    ids = _ids(visit.query.all("id"))
    is_all = not ids
    if is_all:
        found = await QuarantineLists(visit.desk.looks).page(QuarantineFilter(), after=None, limit=DRY_RUN_MAX)
        ids = [row.quarantine_id for row in found.rows]
    told = await _dry_run(visit.desk, ids) if ids else []
    totals = await QuarantineLists(visit.desk.looks).totals(_COUNTED_MAX)
    return await visit.page(
        "quarantine_retry.html",
        told=told,
        is_all=is_all,
        totals=totals,
        at_once_max=AT_ONCE_MAX,
        say=sayer(visit.gettext),
    )


async def retry(visit: Visit) -> Response:
    """Retry rows, the oldest first, and tell what became of each."""
    done = await visit.perform(RETRY, {"ids": [str(number) for number in _ids(visit.form.all("id"))]})
    results = (done.result or {}).get("results", [])
    visit.did = {
        "taken": [one["quarantine_id"] for one in results if one["resolved"]],
        "not_taken": [one["quarantine_id"] for one in results if not one["resolved"]],
    }
    visit.told = f"{sum(one['resolved'] for one in results)} of {len(results)} were taken"
    totals = await QuarantineLists(visit.desk.looks).totals(_COUNTED_MAX)
    return await visit.page("quarantine_done.html", results=results, totals=totals)


async def write_off(visit: Visit) -> Response:
    """Ask for a change to be given up."""
    row = await _row(visit)
    filtering.check_typed(visit.form, str(row.quarantine_id))
    done = await visit.perform(WRITE_OFF, {"quarantine_id": str(row.quarantine_id)})
    notice = "waits" if done.approval_id is not None else "done"
    return visit.redirect(f"/quarantine/{row.quarantine_id}", notice=notice)


async def _row(visit: Visit) -> Aside:
    number = filtering.number_in(visit.path["quarantine_id"], "quarantine_id")
    row = await QuarantineLists(visit.desk.looks).one(number)
    if row is None:
        raise filtering.refuse("quarantine_id", "must be the number of a row in quarantine")
    return row


def _wanted(visit: Visit) -> QuarantineFilter:
    query = visit.query
    state = query.text("state") or "open"
    if state not in _STATES:
        raise filtering.refuse("state", f"must be one of {', '.join(_STATES)}")
    kind = query.text("kind") or None
    if kind not in (None, *KINDS):
        raise filtering.refuse("kind", f"must be one of {', '.join(KINDS)}")
    return QuarantineFilter(
        is_open=_STATES[state],
        lane=filtering.whole(query, "lane", most=999),
        packet_id=filtering.packet_id(query, "packet"),
        kind=kind,
    )


def _ids(texts: Sequence[str]) -> list[int]:
    if len(texts) > AT_ONCE_MAX:
        raise filtering.refuse("id", f"must be at most {AT_ONCE_MAX} rows")
    return sorted({filtering.number_in(text, "id") for text in texts})


async def _dry_run(desk: Desk, ids: Sequence[int], *, writes_off: bool = False) -> list[DryRun]:
    async with Quarantine.open(desk.settings) as quarantine:
        return await quarantine.dry_run(ids, writes_off=writes_off)


async def _retry(doing: Doing[Desk]) -> dict[str, Any]:
    ids = [int(number) for number in doing.arguments["ids"]] or None
    async with Quarantine.open(doing.tools.settings) as quarantine:
        results = [asdict(result) async for result in quarantine.retry_all(ids, by=doing.by)]
    return {"results": [{**result, "quarantine_id": str(result["quarantine_id"])} for result in results]}


async def _write_off(doing: Doing[Desk]) -> dict[str, Any]:
    number = int(doing.arguments["quarantine_id"])
    async with Quarantine.open(doing.tools.settings) as quarantine:
        result = await quarantine.write_off(number, reason=doing.reason, by=by_both(doing))
    if result.resolved:
        return {"sentence": result.sentence}
    row = await QuarantineLists(doing.tools.looks).one(number)
    if row is not None and _is_done(row, doing):
        return {"sentence": written_off(row.moved_fen, row.asset, row.scale)}
    raise NotDoneError(f"Row {number} was not written off now: {result.sentence}.")


def _is_done(row: Aside, doing: Doing[Desk]) -> bool:
    """Whether this very write-off was done before, by a console that died before it could note it."""
    is_theirs = (row.resolved_by or "").partition(", approved by ")[0] == doing.asked_by
    return row.resolution == "written_off" and is_theirs and row.resolution_reason == doing.reason


async def _was_done(doing: Doing[Desk]) -> bool:
    return is_kept_of(doing, *await written_off_as(doing.connection, int(doing.arguments["quarantine_id"])))


async def _effect(desk: Desk, arguments: Arguments) -> Effect:
    number = int(arguments["quarantine_id"])
    row = await QuarantineLists(desk.looks).one(number)
    told: Effect = [(marked("Row"), str(number))]
    if row is not None:
        told += [
            (marked("Packet"), row.packet_id or "–"),
            (marked("Change"), row.kind),
            (marked("User"), row.user_id or "–"),
        ]
    try:
        (dry,) = await _dry_run(desk, [number], writes_off=True)
    except UnavailableError as error:
        return [*told, (marked("What it does now"), str(error))]
    return [*told, (marked("What it does now"), dry.sentence)]


ACTIONS = (
    Action(name=RETRY, permission="quarantine:retry", execute=_retry),
    Action(
        name=WRITE_OFF,
        permission="quarantine:write_off",
        execute=_write_off,
        needs_two=always,
        effect=_effect,
        was_done=_was_done,
    ),
)
_ONE = ("quarantine", "quarantine_id")
ROUTES = (
    Page("GET", "/quarantine", show, "quarantine:read"),
    Page("GET", "/quarantine.csv", export, "quarantine:export", action="export quarantine", is_export=True),
    Page("GET", "/quarantine/retry", show_retry, "quarantine:retry"),
    Page("POST", "/quarantine/retry", retry, "quarantine:retry", action="retry quarantine", needs_proof=True),
    Page(
        "GET",
        "/quarantine/{quarantine_id}",
        show_one,
        "quarantine:read",
        action="look at quarantine",
        subject=_ONE,
        is_look=True,
    ),
    Page(
        "POST",
        "/quarantine/{quarantine_id}/write-off",
        write_off,
        "quarantine:write_off",
        action="write off",
        subject=_ONE,
        needs_proof=True,
    ),
)
