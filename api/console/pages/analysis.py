"""Pictures of some days: choose them, have them drawn as one heavy job, look at them, take the tables as files."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

from starlette.responses import Response

from api.console import filtering
from api.console.csv_files import Cell
from api.console.texts import marked
from api.console.visits import Page, Visit
from api.problems import UnknownRouteError
from engine.analysis.finding import Cell as Number
from engine.analysis.finding import Language
from engine.analysis.runs import Run
from engine.analysis.scope import DAYS_MAX
from engine.calendar.china_time import today
from engine.errors import FieldProblem, InvalidFieldsError
from engine.spreadsheets import Plain

READ, RUN, EXPORT = "analysis:read", "analysis:run", "analysis:export"
_DAYS = 30
_PNG_SECONDS = 600


async def show(visit: Visit) -> Response:
    """The form, and the studies that are kept."""
    return await _page(visit)


async def begin(visit: Visit) -> Response:
    """Begin a study, or show the one that is under way."""
    form = visit.form
    try:
        first = filtering.day(form, "from")
        if first is None:
            raise filtering.refuse("from", "must be a day as 2026-11-28")
        last = filtering.day(form, "to") or first
        asset = (await filtering.asset(visit.desk.engine.assets, form, "asset")).code
        run, is_new = visit.desk.studies.begin(
            first, last, asset=asset, language=Language(visit.language), by=visit.operator.name
        )
    except InvalidFieldsError as error:
        return await _page(visit, problems=error.problems)
    visit.told = f"run {run.run_id}" if is_new else f"run {run.run_id} was under way"
    return visit.redirect(f"/analysis/runs/{run.run_id}", **({} if is_new else {"notice": "study_under_way"}))


async def show_run(visit: Visit) -> Response:
    """A study: how far it is, or its pictures."""
    return await visit.page("analysis_run.html", **_values(visit, _run(visit)))


async def show_part(visit: Visit) -> Response:
    """The part of a study's page that asks for itself until the study has ended."""
    return await visit.page("analysis_part.html", **_values(visit, _run(visit)))


async def picture(visit: Visit) -> Response:
    """A PNG in the operator's language."""
    run = _run(visit)
    png = await visit.desk.studies.picture(run, visit.path["name"], Language(visit.language))
    if png is None:
        raise UnknownRouteError(_NOT_KEPT)
    headers = {"cache-control": f"private, max-age={_PNG_SECONDS}", "vary": "cookie, accept-language"}
    return Response(png, media_type="image/png", headers=headers)


async def table(visit: Visit) -> Response:
    """A finding's table as a file."""
    finding = _run(visit).finding(visit.path["name"])
    if finding is None or finding.is_empty:
        raise UnknownRouteError(_NOT_KEPT)
    columns, rows = finding.table
    return await visit.file(f"analysis_{finding.name}", columns, _rows(rows))


_NOT_KEPT = marked("This study is no longer kept. Begin it again.")


def _run(visit: Visit) -> Run:
    run = visit.desk.studies.get(visit.path["run"])
    if run is None:
        raise UnknownRouteError(_NOT_KEPT)
    return run


async def _page(visit: Visit, problems: Sequence[FieldProblem] = ()) -> Response:
    yesterday = today() - timedelta(days=1)
    return await visit.page(
        "analysis.html",
        status=422 if problems else 200,
        problems=problems,
        first=visit.form.text("from") or str(yesterday - timedelta(days=_DAYS - 1)),
        last=visit.form.text("to") or str(yesterday),
        asset=visit.form.text("asset"),
        days_max=DAYS_MAX,
        runs=visit.desk.studies.kept,
    )


def _values(visit: Visit, run: Run) -> dict[str, Any]:
    language = Language(visit.language)
    findings = () if run.study is None or run.ended_at_ms is None else run.study.findings
    return {
        "run": run,
        "scope": None if run.study is None else run.study.scope,
        "shown": [(finding, finding.said[language]) for finding in findings],
        "failed": {name for name, drawn_in in run.failed if drawn_in is language},
    }


async def _rows(rows: Sequence[tuple[Number, ...]]) -> AsyncIterator[Sequence[Cell]]:
    for row in rows:
        yield [Plain(f"{cell:.6f}".rstrip("0").rstrip(".")) if isinstance(cell, float) else cell for cell in row]


ROUTES = (
    Page("GET", "/analysis", show, READ),
    Page("POST", "/analysis", begin, RUN, action="run analysis", subject=("days", "from")),
    Page("GET", "/analysis/runs/{run}", show_run, READ),
    Page("GET", "/analysis/runs/{run}/part", show_part, READ, asks_by_itself=True),
    Page("GET", "/analysis/runs/{run}/pictures/{name}", picture, READ),
    Page(
        *("GET", "/analysis/runs/{run}/tables/{name}", table, EXPORT),
        action="export analysis",
        subject=("analysis", "name"),
        is_export=True,
    ),
)
