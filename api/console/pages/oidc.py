"""Single sign-on: to the provider, back from it, and our own code where the provider has asked for no second factor.

A session's cookie is ``SameSite=Strict``, and a redirect is of the site where it began. So the way back from the
provider ends in a page of ours, from which the browser goes on.
"""

from starlette.responses import RedirectResponse, Response

from api.console.openid.claims import SingleSignOn
from api.console.openid.handshakes import COOKIE, Leaving, Waiting, forget
from api.console.pages.signing_in import keep
from api.console.refusals import sentence_of, status_of
from api.console.texts import marked
from api.console.visits import Guest, PublicPage, is_own_path, to
from api.problems import UnknownRouteError
from engine.errors import HongbaoError
from engine.operators.accounts import Operator
from engine.operators.log import ASKED, FAILED, OK, REFUSED, Actor
from engine.operators.refusals import ProviderAwayError, ProviderRefusedError, WrongCodeError

_ACTION = marked("sign in by single sign-on")
_ERROR_LENGTH_MAX = 100


async def start(guest: Guest) -> Response:
    """Send the browser to the provider."""
    provider = _provider(guest)
    leaving = Leaving.of(guest.query.text("next"))
    try:
        guest.take_try()
        url = await provider.authorization_url(state=leaving.state, nonce=leaving.nonce, verifier=leaving.verifier)
    except HongbaoError as error:
        return await _refused(guest, error)
    return guest.desk.front.handshakes.put(RedirectResponse(url, status_code=303), leaving)


async def come_back(guest: Guest) -> Response:
    """Check what the provider says, and begin a session or ask for our code."""
    provider, name = _provider(guest), ""
    try:
        leaving = guest.desk.front.handshakes.leaving(guest.cookies.get(COOKIE, ""))
        leaving.check_state(guest.query.text("state"))
        guest.take_try()
        vouched = await provider.vouched(
            code=_code(guest), issuer=guest.query.text("iss"), nonce=leaving.nonce, verifier=leaving.verifier
        )
        name = vouched.name
        operator = await guest.desk.operators.vouched(name)
    except HongbaoError as error:
        return await _refused(guest, error, name)
    told = "the provider has asked for a second factor" if vouched.has_second_factor else "it needs our code"
    asked = await guest.desk.log.write(
        _actor(guest, operator), _ACTION, ASKED, subject=("operator", operator.name), told=told
    )
    if not vouched.has_second_factor:
        waiting = Waiting(name=operator.name, asked=asked, next=leaving.next)
        return guest.desk.front.handshakes.put(guest.redirect("/oidc/code"), waiting)
    try:
        token = await _begun(guest, operator, asked, is_proved=False)
    except HongbaoError as error:
        return await _refused(guest, error, name, asked)
    path = leaving.next if is_own_path(leaving.next) else "/"
    page = await guest.page("oidc_done.html", path=path, name=operator.name, other_languages=[])
    return keep(forget(page), token)


async def show_code(guest: Guest) -> Response:
    """The form for our code."""
    _provider(guest)
    try:
        waiting = guest.desk.front.handshakes.waiting(guest.cookies.get(COOKIE, ""))
    except HongbaoError as error:
        return await _told(guest, error)
    return await guest.page("oidc_code.html", wrong="", name=waiting.name)


async def give_code(guest: Guest) -> Response:
    """Begin a session if it is the operator's code. A wrong one counts as it does beside a password."""
    _provider(guest)
    name, asked = "", None
    try:
        waiting = guest.desk.front.handshakes.waiting(guest.cookies.get(COOKIE, ""))
        name, asked = waiting.name, waiting.asked
        guest.take_try()
        operator = await guest.desk.operators.vouched(name)
        await guest.desk.operators.prove(operator.operator_id, guest.form.text("code"))
        token = await _begun(guest, operator, asked, is_proved=True)
    except WrongCodeError as error:
        await _note(guest, error, name, asked)
        wrong = guest.gettext(sentence_of(error))
        return await guest.page("oidc_code.html", status=status_of(error), wrong=wrong, name=name)
    except HongbaoError as error:
        return await _refused(guest, error, name, asked)
    return keep(forget(to(waiting.next or "/")), token)


async def _begun(guest: Guest, operator: Operator, asked: int | None, *, is_proved: bool) -> str:
    """A new session's token."""
    token, session_id = await guest.desk.sessions.begin(
        operator, address=guest.address, agent=guest.agent, is_proved=is_proved
    )
    actor = _actor(guest, operator, session_id)
    await guest.desk.log.write(actor, _ACTION, OK, subject=("operator", operator.name), about=asked)
    return token


async def _refused(guest: Guest, error: HongbaoError, name: str = "", asked: int | None = None) -> Response:
    """A row about it, and the page that says what is wrong. The browser has to begin again."""
    await _note(guest, error, name, asked)
    return forget(await _told(guest, error))


async def _told(guest: Guest, error: HongbaoError) -> Response:
    sentence = guest.gettext(sentence_of(error))
    return await guest.page("oidc_refused.html", status=status_of(error), sentence=sentence, other_languages=[])


async def _note(guest: Guest, error: HongbaoError, name: str, asked: int | None) -> None:
    """``name``: as the provider says it. The log keeps it even if no operator has it, for it is no password."""
    await guest.note_refusal(
        _ACTION,
        f"{error.code}: {error}",
        name=name,
        subject=("operator", name) if name else ("", ""),
        outcome=FAILED if isinstance(error, ProviderAwayError) else REFUSED,
        about=asked,
    )


def _actor(guest: Guest, operator: Operator, session_id: int | None = None) -> Actor:
    return Actor(name=operator.name, role=operator.role, address=guest.address, session_id=session_id)


def _provider(guest: Guest) -> SingleSignOn:
    """Raises UnknownRouteError if the settings have none: then there are no such pages."""
    provider = guest.desk.front.single_sign_on
    if provider is None:
        raise UnknownRouteError("Single sign-on is not set up here.")
    return provider


def _code(guest: Guest) -> str:
    code, error = guest.query.text("code"), guest.query.text("error")
    if error or not code:
        raise ProviderRefusedError(f"it answers {error[:_ERROR_LENGTH_MAX] or 'without a code'}")
    return code


ROUTES: tuple[PublicPage, ...] = (
    PublicPage("GET", "/oidc/start", start),
    PublicPage("GET", "/oidc/callback", come_back),
    PublicPage("GET", "/oidc/code", show_code),
    PublicPage("POST", "/oidc/code", give_code),
)
