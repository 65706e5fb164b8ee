"""Signing in and out, and the page of a set-up link."""

import segno
from starlette.responses import Response

from api.console.forms import Fields
from api.console.gate import COOKIE
from api.console.refusals import sentence_of, status_of
from api.console.texts import marked
from api.console.visits import SIGNED_IN, Guest, Page, PublicPage, Visit, to
from engine.errors import HongbaoError
from engine.operators import codes
from engine.operators.log import OK, Actor
from engine.operators.passwords import CHARACTERS_MIN
from engine.operators.refusals import SignInRefusedError, WeakPasswordError

_ACTION, _SET_UP_ACTION = marked("sign in"), marked("set up sign-in")


async def show_login(guest: Guest) -> Response:
    """The form."""
    return await guest.page("signing_in_login.html", wrong="", next=guest.query.text("next"))


async def sign_in(guest: Guest) -> Response:
    """Begin a session, and go to where the person wanted to go."""
    form = guest.form
    try:
        guest.take_try()
        operator = await guest.desk.operators.sign_in(form.text("name"), _raw(form, "password"), form.text("code"))
        token, session_id = await guest.desk.sessions.begin(operator, address=guest.address, agent=guest.agent)
    except HongbaoError as error:
        await _note_refusal(guest, form.text("name"), error)
        wrong = guest.gettext(sentence_of(error))
        return await guest.page("signing_in_login.html", status=status_of(error), wrong=wrong, next=form.text("next"))
    actor = Actor(name=operator.name, role=operator.role, address=guest.address, session_id=session_id)
    await guest.desk.log.write(actor, _ACTION, OK, subject=("operator", operator.name))
    return keep(to(form.text("next") or "/"), token)


def keep(response: Response, token: str) -> Response:
    """Have the browser keep a session's token."""
    response.set_cookie(COOKIE, token, secure=True, httponly=True, samesite="strict", path="/")
    return response


async def sign_out(visit: Visit) -> Response:
    """End the session, and have the browser forget what it knows of the console."""
    await visit.desk.sessions.end(visit.session.session_id)
    response = visit.redirect("/login", notice="signed_out")
    response.delete_cookie(COOKIE, secure=True, httponly=True, samesite="strict", path="/")
    response.headers["clear-site-data"] = '"cache", "storage"'
    return response


async def show_set_up(guest: Guest) -> Response:
    """What a new operator sets: a password, and an authenticator."""
    return await _set_up_page(guest, "", 200)


async def set_up(guest: Guest) -> Response:
    """Set both, and use the link up."""
    form, name = guest.form, ""
    try:
        guest.take_try()
        name = (await guest.desk.operators.set_up(guest.path["link"])).operator.name
        if _raw(form, "password") != _raw(form, "again"):
            raise WeakPasswordError(marked("The two passwords differ."))
        operator = await guest.desk.operators.finish_set_up(
            guest.path["link"], _raw(form, "password"), form.text("code")
        )
    except HongbaoError as error:
        subject = ("operator", name) if name else ("", "")
        await guest.note_refusal(_SET_UP_ACTION, f"{error.code}: {error}", name=name, subject=subject)
        return await _set_up_page(guest, guest.gettext(sentence_of(error)), status_of(error))
    actor = Actor(name=operator.name, role=operator.role, address=guest.address)
    await guest.desk.log.write(actor, _SET_UP_ACTION, OK, subject=("operator", operator.name))
    return guest.redirect("/login", notice="set_up")


async def _set_up_page(guest: Guest, wrong: str, status: int) -> Response:
    found = await guest.desk.operators.set_up(guest.path["link"])
    name, secret = found.operator.name, found.totp_secret
    picture = segno.make(codes.address_of(secret, name)).svg_data_uri(scale=5, border=3, light="#fff", dark="#000")
    spaced = " ".join(secret[start : start + 4] for start in range(0, len(secret), 4))
    return await guest.page(
        "signing_in_set_up.html",
        status=status,
        wrong=wrong,
        name=name,
        secret=spaced,
        picture=picture,
        characters_min=CHARACTERS_MIN,
    )


async def _note_refusal(guest: Guest, name: str, error: HongbaoError) -> None:
    if isinstance(error, SignInRefusedError):
        told = f"{error.code}: the operator is locked" if error.is_locked else error.code
    else:
        told = f"{error.code}: {error}"
    await guest.note_refusal(_ACTION, told, name=name)


def _raw(form: Fields, name: str) -> str:
    """A password as it was typed."""
    return form.text(name)


ROUTES: tuple[Page | PublicPage, ...] = (
    PublicPage("GET", "/login", show_login),
    PublicPage("POST", "/login", sign_in),
    Page("POST", "/logout", sign_out, SIGNED_IN, action=marked("sign out")),
    PublicPage("GET", "/setup/{link}", show_set_up),
    PublicPage("POST", "/setup/{link}", set_up),
)
