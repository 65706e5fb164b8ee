"""One's own sign-in: language, password, authenticator, sessions."""

from starlette.responses import Response

from api.console.gate import LANGUAGE_COOKIE
from api.console.texts import LANGUAGES, marked
from api.console.visits import SIGNED_IN, Page, Visit
from engine.errors import FieldProblem, InvalidFieldsError
from engine.operators.passwords import CHARACTERS_MIN
from engine.operators.refusals import WeakPasswordError

_YEAR_S = 31_536_000


async def show(visit: Visit) -> Response:
    """All of it."""
    sessions = await visit.desk.sessions.open_of(visit.operator.name)
    return await visit.page("me.html", sessions=sessions, characters_min=CHARACTERS_MIN)


async def put_language(visit: Visit) -> Response:
    """Keep the language with the operator, so that every browser of theirs has it."""
    language = visit.form.text("language")
    if language not in LANGUAGES:
        raise InvalidFieldsError([FieldProblem("language", f"must be one of {', '.join(LANGUAGES)}")])
    await visit.desk.operators.put_language(visit.operator.operator_id, language)
    response = visit.redirect("/me", notice="saved")
    response.set_cookie(
        LANGUAGE_COOKIE, language, max_age=_YEAR_S, secure=True, httponly=True, samesite="lax", path="/"
    )
    return response


async def put_password(visit: Visit) -> Response:
    """Change the password. Other sessions end."""
    form = visit.form
    if form.text("new_password") != form.text("again"):
        raise WeakPasswordError(marked("The two passwords differ."))
    await visit.desk.operators.change_password(
        visit.operator,
        form.text("current_password"),
        form.text("new_password"),
        form.text("code"),
        session_id=visit.session.session_id,
    )
    return visit.redirect("/me", notice="saved")


async def renew_authenticator(visit: Visit) -> Response:
    """A set-up link for oneself. The old sign-in holds until it is used."""
    link = await visit.desk.operators.new_authenticator(
        visit.operator, visit.form.text("current_password"), visit.form.text("code")
    )
    return visit.redirect(f"/setup/{link}")


async def end_session(visit: Visit) -> Response:
    """End one of one's own sessions."""
    number = visit.path["session_id"]
    if number.isdecimal() and number.isascii() and len(number) <= 18:
        await visit.desk.sessions.end_of(visit.operator.name, int(number))
    return visit.redirect("/me", notice="session_ended")


ROUTES = (
    Page("GET", "/me", show, SIGNED_IN),
    Page("POST", "/me/language", put_language, SIGNED_IN, action=marked("choose language")),
    Page("POST", "/me/password", put_password, SIGNED_IN, action=marked("change password")),
    Page("POST", "/me/authenticator", renew_authenticator, SIGNED_IN, action=marked("renew authenticator")),
    Page(
        *("POST", "/me/sessions/{session_id}/end", end_session, SIGNED_IN),
        action=marked("end own session"),
        subject=("session", "session_id"),
    ),
)
