"""Operators: who there is, with which role; adding, disabling, resetting them; their sessions and what they did."""

from starlette.responses import Response

from api.console import role_words
from api.console.texts import marked
from api.console.visits import Page, Visit
from engine.errors import FieldProblem, InvalidFieldsError
from engine.operators.log import Filter
from engine.operators.refusals import UnknownOperatorError

_LOG_ROWS = 20
_SUBJECT = ("operator", "name")


async def show_all(visit: Visit) -> Response:
    """The list, and a form to add one."""
    found = await visit.desk.operators.list()
    return await visit.page("operators.html", operators=found, roles=role_words.lines(visit.gettext), link="", added="")


async def add(visit: Visit) -> Response:
    """Add one. The page shows the link once."""
    name = visit.form.text("name")
    visit.reason()
    link = await visit.desk.operators.add(name, visit.form.text("role"), by=visit.operator.name)
    return await _with_link(visit, name, link)


async def show(visit: Visit) -> Response:
    """One operator."""
    name = visit.path["name"]
    found = next((view for view in await visit.desk.operators.list() if view.name == name), None)
    if found is None:
        raise UnknownOperatorError(f"There is no operator {name[:64]}.")
    sessions = await visit.desk.sessions.open_of(name)
    done = await visit.desk.log.page(Filter(operator=name), limit=_LOG_ROWS)
    roles = role_words.lines(visit.gettext)
    return await visit.page("operators_one.html", one=found, sessions=sessions, rows=done.rows, roles=roles)


async def put_role(visit: Visit) -> Response:
    """Give another role."""
    name = _another(visit)
    visit.reason()
    await visit.desk.operators.put_role(name, visit.form.text("role"))
    return visit.redirect(f"/operators/{name}", notice="saved")


async def disable(visit: Visit) -> Response:
    """Refuse them from now on."""
    name = _another(visit)
    visit.reason()
    await visit.desk.operators.disable(name)
    return visit.redirect(f"/operators/{name}", notice="saved")


async def enable(visit: Visit) -> Response:
    """Let them sign in again."""
    name = _another(visit)
    visit.reason()
    await visit.desk.operators.enable(name)
    return visit.redirect(f"/operators/{name}", notice="saved")


async def reset(visit: Visit) -> Response:
    """Forget their password and authenticator. The page shows the new link once."""
    name = _another(visit)
    visit.reason()
    return await _with_link(visit, name, await visit.desk.operators.reset(name))


async def end_session(visit: Visit) -> Response:
    """End one of their sessions."""
    name, number = visit.path["name"], visit.path["session_id"]
    if not await visit.desk.operators.is_known(name):
        raise UnknownOperatorError(f"There is no operator {name[:64]}.")
    if number.isdecimal() and number.isascii() and len(number) <= 18:
        await visit.desk.sessions.end_of(name, int(number))
    return visit.redirect(f"/operators/{name}", notice="session_ended")


async def _with_link(visit: Visit, name: str, link: str) -> Response:
    found = await visit.desk.operators.list()
    address = f"{visit.desk.front.origin}/setup/{link}"
    return await visit.page(
        "operators.html", operators=found, roles=role_words.lines(visit.gettext), link=address, added=name
    )


def _another(visit: Visit) -> str:
    """The operator in the path, who is not the one who asks: else the last admin could lock everybody out."""
    name = visit.path["name"]
    if name == visit.operator.name:
        raise InvalidFieldsError([FieldProblem("name", "is you: another admin must do this")])
    return name


def _action(path: str, endpoint: object, action: str) -> Page:
    return Page(
        *("POST", f"/operators{path}", endpoint, "operators:write"),  # type: ignore[arg-type]
        action=action,
        subject=_SUBJECT,
        needs_proof=True,
    )


ROUTES = (
    Page("GET", "/operators", show_all, "operators:read"),
    _action("", add, marked("add operator")),
    Page("GET", "/operators/{name}", show, "operators:read"),
    _action("/{name}/role", put_role, marked("change role")),
    _action("/{name}/disable", disable, marked("disable operator")),
    _action("/{name}/enable", enable, marked("enable operator")),
    _action("/{name}/reset", reset, marked("reset operator")),
    _action("/{name}/sessions/{session_id}/end", end_session, marked("end session")),
)
