"""Reconciliation: a calendar of days, each day's runs with what differs, reasons, and running one."""

import calendar
from datetime import date, timedelta
from typing import Any, NamedTuple

from starlette.responses import Response

from api.console import exports, filtering
from api.console.desk import Desk
from api.console.exports import Column
from api.console.visits import Page, Visit
from engine.auditing.comparison import Comparison
from engine.auditing.runs import DayLine, ReconciliationRun, Runs
from engine.calendar.china_time import begin_ms, today
from engine.operators.actions import Action, Doing
from engine.paging import Page as Rows
from engine.spreadsheets import Plain

RUN, EXPLAIN = "reconciliation.run", "reconciliation.explain"
_HERE = "/reconciliation"
_MONTHS_SHOWN = 3
_RUNS_SHOWN = 5


class Cell(NamedTuple):
    """One day of the calendar. ``line`` None: not run. ``tone``: good, bad, warn, or empty."""

    day: date
    line: DayLine | None
    tone: str
    word: str
    is_future: bool


class Difference(NamedTuple):
    """One line of a file: a comparison's sides and one of its differences."""

    run: ReconciliationRun
    comparison: Comparison
    sentence: str
    packet_id: str | None
    user_id: str | None
    withdrawal_id: str | None


async def show(visit: Visit) -> Response:
    """The calendar of some months."""
    last = filtering.day(visit.query, "until") or today()
    runs = Runs(visit.desk.looks)
    first = _months_before(last.replace(day=1), _MONTHS_SHOWN - 1)
    after = _months_before(last.replace(day=1), -1)
    lines = {line.day: line for line in await runs.days(before=after, since=first, limit=400)}
    months = []
    month = last.replace(day=1)
    while month >= first:
        weeks = [[_cell(visit, day, lines, month) for day in week] for week in _weeks(month)]
        months.append((month, weeks))
        month = _months_before(month, 1)
    return await visit.page(
        "reconciliation.html",
        months=months,
        lines=sorted(lines.values(), key=lambda line: line.day, reverse=True),
        earlier=first - timedelta(days=1),
        job=visit.desk.jobs.last,
        here=_HERE,
        yesterday=today() - timedelta(days=1),
        tone=_tone,
        word=lambda line: _word(visit, line),
    )


async def show_part(visit: Visit) -> Response:
    """How far the job is: the part of the calendar and of a day that asks for itself."""
    here = f"{_HERE}/{_day(visit)}" if "day" in visit.path else _HERE
    return await visit.page("reconciliation_job.html", job=visit.desk.jobs.last, here=here)


def _weeks(month: date) -> list[list[date]]:
    return calendar.Calendar(firstweekday=0).monthdatescalendar(month.year, month.month)


def _months_before(month: date, count: int) -> date:
    number = month.year * 12 + month.month - 1 - count
    return date(number // 12, number % 12 + 1, 1)


def _cell(visit: Visit, day: date, lines: dict[date, DayLine], month: date) -> Cell | None:
    if day.month != month.month:
        return None
    line = lines.get(day)
    return Cell(day, line, _tone(line), _word(visit, line), day > today())


def _tone(line: DayLine | None) -> str:
    if line is None:
        return ""
    if line.is_provisional:
        return "warn"
    if line.agrees:
        return "good"
    return "warn" if line.explained >= line.differing else "bad"


def _word(visit: Visit, line: DayLine | None) -> str:
    if line is None:
        return visit.gettext("not run")
    if line.is_provisional:
        return visit.gettext("provisional")
    if line.agrees:
        return visit.gettext("agrees")
    if line.explained >= line.differing:
        return visit.gettext("explained")
    return visit.gettext("%(count)s differ", count=line.difference_count)


async def show_day(visit: Visit) -> Response:
    """A day's runs, the last first, with both sides of each comparison."""
    day, runs = _day(visit), Runs(visit.desk.looks)
    found = await runs.of_day(day, after=visit.query.text("after") or None, limit=_RUNS_SHOWN)
    assets = {one.asset for run in found.rows for one in run.comparisons if one.asset is not None}
    reasons = {run.reconciliation_id: await runs.reasons(run.reconciliation_id) for run in found.rows}
    return await visit.page(
        "reconciliation_day.html",
        day=day,
        found=found,
        reasons=reasons,
        scales={asset: (await visit.desk.engine.assets.named(asset)).scale for asset in assets},
        job=visit.desk.jobs.last,
        here=f"{_HERE}/{day}",
        is_over=begin_ms(day + timedelta(days=1)) <= begin_ms(today()),
    )


async def export(visit: Visit) -> Response:
    """The differences of a day's last run as a file."""
    day, runs, _ = _day(visit), Runs(visit.desk.looks), visit.gettext

    async def page(_after: str | None, _limit: int) -> Rows[Difference]:
        found = await runs.of_day(day, after=None, limit=1)
        rows = [
            Difference(run, one, sentence, subject.packet_id, subject.user_id, subject.withdrawal_id)
            for run in found.rows
            for one in run.comparisons
            for sentence, subject in zip(one.differences, one.subjects, strict=True)
        ]
        return Rows(rows, None)

    columns: list[Column[Difference]] = [
        exports.text(_("Day"), lambda row: Plain(row.run.day)),
        exports.text(_("Run"), lambda row: row.run.run),
        exports.text(_("Compared"), lambda row: row.comparison.name),
        exports.text(_("Difference"), lambda row: row.sentence),
        exports.text(_("Packet"), lambda row: row.packet_id),
        exports.text(_("User"), lambda row: row.user_id),
        exports.text(_("Withdrawal"), lambda row: row.withdrawal_id),
        exports.text(_("Not listed"), lambda row: row.comparison.more),
    ]
    return await exports.file_of(visit, f"reconciliation_{day}", columns, page)


async def run(visit: Visit) -> Response:
    """Begin to compare a day."""
    day = filtering.day(visit.form, "day")
    if day is None or day > today():
        raise filtering.refuse("day", "must be a day that has begun in China")
    await visit.perform(
        RUN, {"day": day.isoformat(), "provisional": visit.form.text("provisional") == "yes"}, needs_reason=False
    )
    return visit.redirect(f"/reconciliation/{day}", notice="begun")


async def explain(visit: Visit) -> Response:
    """Say why a comparison's differences are none to worry about."""
    day = _day(visit)
    number = filtering.number_in(visit.form.text("run"), "run")
    await visit.perform(EXPLAIN, {"run": str(number), "comparison": visit.form.text("comparison")})
    return visit.redirect(f"/reconciliation/{day}", notice="saved")


def _day(visit: Visit) -> date:
    try:
        found = date.fromisoformat(visit.path["day"])
    except ValueError:
        found = None
    if found is None or found.isoformat() != visit.path["day"] or not 2000 <= found.year < 2100:
        raise filtering.refuse("day", "must be a day as 2026-11-28")
    return found


async def _run(doing: Doing[Desk]) -> dict[str, Any]:
    day = date.fromisoformat(doing.arguments["day"])
    job = doing.tools.jobs.reconcile(day, by=doing.by, provisional=doing.arguments["provisional"])
    return {"what": job.what}


async def _explain(doing: Doing[Desk]) -> dict[str, Any]:
    arguments = doing.arguments
    await Runs(doing.tools.engine.pool).explain(
        int(arguments["run"]), arguments["comparison"], reason=doing.reason, by=doing.by
    )
    return {}


ACTIONS = (
    Action(name=RUN, permission="reconciliation:run", execute=_run),
    Action(name=EXPLAIN, permission="reconciliation:explain", execute=_explain),
)
_ONE = ("day", "day")
ROUTES = (
    Page("GET", _HERE, show, "reconciliation:read"),
    Page("GET", f"{_HERE}/part", show_part, "reconciliation:read", asks_by_itself=True),
    Page("POST", "/reconciliation/run", run, "reconciliation:run", action="run a reconciliation", subject=_ONE),
    Page("GET", "/reconciliation/{day}", show_day, "reconciliation:read", subject=_ONE),
    Page("GET", "/reconciliation/{day}/part", show_part, "reconciliation:read", subject=_ONE, asks_by_itself=True),
    Page(
        "GET",
        "/reconciliation/{day}/differences.csv",
        export,
        "reconciliation:export",
        action="export a reconciliation",
        subject=_ONE,
        is_export=True,
    ),
    Page(
        "POST",
        "/reconciliation/{day}/explain",
        explain,
        "reconciliation:explain",
        action="explain a difference",
        subject=_ONE,
    ),
)
