"""Audits as they came out: each invariant, how much was examined, what breaks it, and the anchor to keep elsewhere."""

from typing import Any

import orjson
from starlette.responses import Response

from api.console import filtering
from api.console.desk import Desk
from api.console.visits import Page, Visit
from engine.auditing.runs import Runs
from engine.operators.actions import Action, Doing
from engine.operators.log import OK

RUN = "audit.run"
_HERE = "/audit"
_RUNS_SHOWN = 20


async def show(visit: Visit) -> Response:
    """The audits, and the last one whole."""
    runs = Runs(visit.desk.looks)
    found = await runs.audits(after=visit.query.text("after") or None, limit=_RUNS_SHOWN)
    last = await runs.audit(found.rows[0].audit_run_id) if found.rows and not visit.query.text("after") else None
    return await visit.page("audit.html", found=found, last=last, job=visit.desk.jobs.last, here=_HERE)


async def show_part(visit: Visit) -> Response:
    """How far the job is: the part of the page that asks for itself."""
    return await visit.page("audit_job.html", job=visit.desk.jobs.last, here=_HERE)


async def show_one(visit: Visit) -> Response:
    """One audit."""
    number = filtering.number_in(visit.path["audit_run_id"], "audit_run_id")
    return await visit.page("audit_one.html", run=await Runs(visit.desk.looks).audit(number))


async def anchor(visit: Visit) -> Response:
    """An audit as `hongbao audit --json` prints it, for `--anchor`."""
    number = filtering.number_in(visit.path["audit_run_id"], "audit_run_id")
    found = await Runs(visit.desk.looks).anchor(number)
    told = f"{len(found)} findings"
    await visit.desk.log.write(visit.actor, visit.action, OK, subject=visit.subject(), told=told, about=visit.asked)
    headers = {"content-disposition": f'attachment; filename="audit_{number}.json"'}
    return Response(orjson.dumps(found), media_type="application/json", headers=headers)


async def run(visit: Visit) -> Response:
    """Begin an audit."""
    await visit.perform(RUN, {"is_full": visit.form.text("full") == "yes"}, needs_reason=False)
    return visit.redirect("/audit", notice="begun")


async def _run(doing: Doing[Desk]) -> dict[str, Any]:
    job = doing.tools.jobs.audit(by=doing.by, is_full=bool(doing.arguments["is_full"]))
    return {"what": job.what}


ACTIONS = (Action(name=RUN, permission="audit:run", execute=_run),)
_ONE = ("audit", "audit_run_id")
ROUTES = (
    Page("GET", _HERE, show, "audit:read"),
    Page("GET", f"{_HERE}/part", show_part, "audit:read", asks_by_itself=True),
    Page("POST", "/audit/run", run, "audit:run", action="run an audit"),
    Page("GET", "/audit/{audit_run_id}", show_one, "audit:read", subject=_ONE),
    Page(
        "GET",
        "/audit/{audit_run_id}/anchor.json",
        anchor,
        "audit:export",
        action="export an anchor",
        subject=_ONE,
        is_export=True,
    ),
)
