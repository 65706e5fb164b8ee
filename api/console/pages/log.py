"""The operator log: who did what, when, why, and with which outcome."""

from collections.abc import AsyncIterator
from datetime import date, timedelta

from starlette.responses import Response

from api.console import csv_files
from api.console.texts import marked
from api.console.visits import Page, Visit
from engine.calendar.china_time import begin_ms
from engine.errors import FieldProblem, InvalidFieldsError
from engine.operators.log import ASKED, FAILED, OK, PAGE_MAX, REFUSED, Filter, Row

ROWS = 50
_OUTCOMES = {ASKED: marked("asked"), OK: marked("done"), REFUSED: marked("refused"), FAILED: marked("failed")}


async def show(visit: Visit) -> Response:
    """A page of it, newest first."""
    found = await visit.desk.log.page(_filter(visit), after=visit.query.text("after") or None, limit=ROWS)
    actions = [(name, visit.name_of(name)) for name in await visit.desk.log.actions()]
    outcomes = [(name, visit.gettext(text)) for name, text in _OUTCOMES.items()]
    return await visit.page("log.html", rows=found.rows, next=found.next, actions=actions, outcomes=outcomes)


async def export(visit: Visit) -> Response:
    """All rows of the filter, as CSV."""
    wanted = _filter(visit)
    await visit.desk.log.page(wanted, limit=1)  # what is wrong with it is told before the file begins
    header = [
        *(visit.gettext("Number"), visit.gettext("Time"), visit.gettext("Operator"), visit.gettext("Role")),
        *(visit.gettext("Session"), visit.gettext("Address"), visit.gettext("Action"), visit.gettext("About")),
        *(visit.gettext("Id"), visit.gettext("Arguments"), visit.gettext("Reason"), visit.gettext("Outcome")),
        *(visit.gettext("Told about it"), visit.gettext("Approval"), visit.gettext("Outcome of")),
    ]
    return await visit.file("log", header, _rows(visit, wanted))


async def _rows(visit: Visit, wanted: Filter) -> AsyncIterator[csv_files.Row]:
    after = None
    while True:
        found = await visit.desk.log.page(wanted, after=after, limit=PAGE_MAX)
        for row in found.rows:
            yield _cells(row)
        after = found.next
        if after is None:
            return


def _cells(row: Row) -> csv_files.Row:
    return (
        *(row.number, csv_files.at(row.at_ms), row.operator, row.role, row.session_id, row.address, row.action),
        *(row.subject_kind, row.subject_id, row.arguments, row.reason, row.outcome, row.told, row.approval_id),
        row.about,
    )


def _filter(visit: Visit) -> Filter:
    query = visit.query
    first, last = _day(visit, "from"), _day(visit, "to")
    return Filter(
        operator=query.text("operator") or None,
        action=query.text("action") or None,
        outcome=query.text("outcome") or None,
        subject_kind=query.text("kind") or None,
        subject_id=query.text("id") or None,
        from_ms=None if first is None else begin_ms(first),
        to_ms=None if last is None else begin_ms(last + timedelta(days=1)),
    )


def _day(visit: Visit, name: str) -> date | None:
    text = visit.query.text(name)
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.min
    if not date(2000, 1, 1) <= day <= date(2999, 12, 31):
        raise InvalidFieldsError([FieldProblem(name, "must be a day, as 2026-11-28")])
    return day


ROUTES = (
    Page("GET", "/log", show, "log:read"),
    Page("GET", "/log.csv", export, "log:export", action=marked("export log"), is_export=True),
)
