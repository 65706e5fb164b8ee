"""From a request to a page: host, origin, session, right, form, log, endpoint. Whatever a page forgets is refused here.

The log has two rows for each action: one before the endpoint is called, one after it with the outcome.
"""

from dataclasses import dataclass, field
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response

from api.bodies import DisconnectedError
from api.console import headers, refusals, sentences, strangers
from api.console.bounds import Bounds
from api.console.desk import Desk
from api.console.forms import Fields, form_of, query_of
from api.console.texts import BASE, LANGUAGES, Texts, language_of, marked
from api.console.visits import Guest, Page, PublicPage, Visit, common_values, is_own_path, to
from api.problems import MalformedError, TooLargeError
from engine.errors import HongbaoError
from engine.operators.log import ASKED, FAILED, OK, REFUSED, is_kept_whole
from engine.operators.refusals import NotPermittedError, WrongCodeError

COOKIE = "__Host-hongbao"
LANGUAGE_COOKIE = "__Host-hongbao-language"
SECRET_FIELDS = frozenset(
    ("password", "current_password", "new_password", "again", "code", "key", "proof", "link", "token", "secret")
)
"""Fields of forms that are in no log."""
_YEAR_S = 31_536_000

_log = structlog.get_logger(__name__)


class CrossSiteError(HongbaoError):
    """A change that does not come from one of our own pages."""

    code = "cross_site"


@dataclass(slots=True)
class Gate:
    """One process's way in. ``desk`` is there once the application has started."""

    desk: Desk | None = None
    bounds: Bounds = field(default_factory=Bounds)

    async def answer(self, request: Request, row: Page | PublicPage) -> Response:
        """The answer to a request for a page."""
        language = BASE
        try:
            if self.desk is None:
                raise RuntimeError("the application has not started")
            query = _query(request)
            language = self._language(request, query, None)
            response = await self._answer(self.desk, request, row, query, language)
        except DisconnectedError:
            response = Response(status_code=400)
        except Exception as error:  # whatever it is, it is answered
            response = self.refuse(request, error, language)
        return self.finish(request, response)

    def refuse(self, request: Request, error: Exception, language: str = BASE, guest: Guest | None = None) -> Response:
        """The page that says what is wrong."""
        status = refusals.status_of(error)
        if status == refusals.INTERNAL:
            path = request.scope["path"]
            if link := request.path_params.get("link"):
                path = path.replace(link, "{link}")  # with it, anybody could set the operator's sign-in up
            _log.error("the console failed", path=path, exc_info=error)
        return self.told(request, status, refusals.sentence_of(error), language, guest)

    def told(
        self, request: Request, status: int, sentence: str, language: str = BASE, guest: Guest | None = None
    ) -> Response:
        """A page with a status's title and a sentence, which is translated if it is one of ours."""
        if self.desk is None:
            return Response("The console has not started.\n", 503, media_type="text/plain")
        front = self.desk.front
        language = language if language in LANGUAGES else self._language(request, Fields(), None)
        texts = front.texts.of(language)
        values: dict[str, Any] = {
            **common_values(front, texts, language, "/"),
            "title": texts.gettext(refusals.title_of(status)),
            "sentence": _in_language(front.texts, language, sentence),
            "status": status,
            "is_fragment": b"hx-request" in dict(request.scope["headers"]),
        }
        return Response(front.templates.render("refused.html", values), status, media_type="text/html")

    def finish(self, request: Request, response: Response) -> Response:
        """Add what all answers have."""
        is_https = self.desk is not None and self.desk.front.origin.startswith("https:")
        chosen = request.query_params.get("lang")
        if chosen in LANGUAGES:
            response.set_cookie(
                LANGUAGE_COOKIE, chosen, max_age=_YEAR_S, secure=True, httponly=True, samesite="lax", path="/"
            )
        return headers.finish(response, is_https=is_https)

    async def _answer(
        self, desk: Desk, request: Request, row: Page | PublicPage, query: Fields, language: str
    ) -> Response:
        found = dict(request.scope["headers"])
        address = desk.front.addresses.of(request.client.host if request.client else "", request.scope["headers"])
        if not desk.front.origins.is_own_host(found.get(b"host", b"")):
            return self.told(request, 421, "", language)
        is_change = request.method not in ("GET", "HEAD")
        if is_change and not desk.front.origins.may_change(found):
            await self._nobody(desk, request, row, address, "it did not come from a page of the console")
            return self.told(request, 403, "", language)
        what: dict[str, Any] = {
            "language": language,
            "address": address,
            "agent": found.get(b"user-agent", b"").decode("latin-1"),
            "bounds": self.bounds,
            "query": query,
            "path": {name: str(text) for name, text in request.path_params.items()},
            "target": _target(request),
            "cookies": request.cookies,
        }
        if isinstance(row, PublicPage):
            form = await self._form(desk, request, row, address)
            module = row.endpoint.__module__.rpartition(".")[2]
            guest = Guest(desk, module, **what, form=form)
            try:
                return await row.endpoint(guest)
            except HongbaoError as error:
                return self.refuse(request, error, language, guest)
        # The form comes before the session: who sends it slowly must not act with rights from before it.
        form = await self._form(desk, request, row, address)
        session = None
        if token := request.cookies.get(COOKIE):
            session = await desk.sessions.of(token, is_use=not row.asks_by_itself)
        if session is None:
            if is_change:
                await self._nobody(desk, request, row, address, "there is no session")
            return _to_sign_in(request, found)
        what["language"] = self._language(request, query, session.operator.language)
        visit = Visit(desk, row, session, **what, form=form)
        return await (self._act(request, visit) if is_change else self._look(request, visit))

    async def _look(self, request: Request, visit: Visit) -> Response:
        """Show a page. Looks at persons' money, exports, and what was refused are in the log."""
        row = visit.row
        if not visit.may(row.permission):
            await self._note(visit, REFUSED, told=f"the role lacks {row.permission}")
            return self.refuse(request, NotPermittedError(), visit.language, visit)
        if row.is_export:
            visit.asked = await self._note(visit, ASKED)
        try:
            response = await row.endpoint(visit)
        except HongbaoError as error:
            if row.is_look or row.is_export:
                await self._note(visit, REFUSED, told=str(error))
            return self.refuse(request, error, visit.language, visit)
        if row.is_look:
            await self._note(visit, OK, told=visit.told)
        return response

    async def _act(self, request: Request, visit: Visit) -> Response:
        """Do what a form asks for. The log has a row before it and a row after it."""
        row, desk = visit.row, visit.desk
        visit.asked = await self._note(visit, ASKED)
        outcome, told = FAILED, ""
        try:
            if not visit.may(row.permission):
                raise NotPermittedError(f"the role lacks {row.permission}")
            if not is_kept_whole(_arguments(visit)):
                raise TooLargeError(marked("The form has more than the operator log can keep."))
            if row.needs_proof and not visit.session.is_proved:
                await self._prove(visit)
            response = await row.endpoint(visit)
            outcome, told = (OK if response.status_code < 400 else REFUSED), visit.told
        except HongbaoError as error:
            is_refused = refusals.status_of(error) < refusals.INTERNAL
            outcome, told = (REFUSED if is_refused else FAILED), f"{error.code}: {error}"
            response = self.refuse(request, error, visit.language, visit)
        except Exception as error:
            told = f"it failed: {type(error).__name__}"
            raise
        finally:
            await desk.log.write(
                visit.actor,
                visit.action,
                outcome,
                subject=visit.subject(),
                arguments=visit.did,
                told=told,
                approval_id=visit.approval_id,
                about=visit.asked,
            )
        return response

    async def _prove(self, visit: Visit) -> None:
        code = visit.form.text("code")
        if not code:
            raise WrongCodeError("This needs a code: enter the one that your authenticator shows now.")
        await visit.desk.operators.prove(visit.operator.operator_id, code)
        await visit.desk.sessions.note_proof(visit.session.session_id)

    async def _note(self, visit: Visit, outcome: str, told: str = "") -> int:
        return await visit.desk.log.write(
            visit.actor,
            visit.action,
            outcome,
            subject=visit.subject(),
            arguments=_arguments(visit),
            reason=visit.form.text("reason"),
            told=told,
            about=visit.asked,
        )

    async def _form(self, desk: Desk, request: Request, row: Page | PublicPage, address: str) -> Fields:
        """The form of a change. One that cannot be read has a row: nobody knows yet who sends it."""
        if request.method in ("GET", "HEAD"):
            return Fields()
        try:
            return await form_of(request.scope["headers"], request.receive)
        except HongbaoError as error:
            await self._nobody(desk, request, row, address, f"{error.code}: {error}")
            raise

    async def _nobody(self, desk: Desk, request: Request, row: Page | PublicPage, address: str, told: str) -> None:
        await strangers.note(desk, self.bounds, address, f"{request.method} {row.path}", told)

    def _language(self, request: Request, query: Fields, kept: str | None) -> str:
        chosen = (query.text("lang"), request.cookies.get(LANGUAGE_COOKIE), kept)
        return language_of(chosen, request.headers.get("accept-language", "")[:200])


def _query(request: Request) -> Fields:
    return query_of(request.scope["query_string"])


def _target(request: Request) -> str:
    query = request.scope["query_string"].decode("latin-1")
    path = request.scope["raw_path"].decode("latin-1") if request.scope.get("raw_path") else request.url.path
    path = path.partition("?")[0]
    return f"{path}?{query}" if query else path


def _arguments(visit: Visit) -> dict[str, Any]:
    """The fields that the log keeps: not secrets, and not the reason (it has a column)."""
    fields = visit.form if visit.row.method != "GET" else visit.query
    left_out = SECRET_FIELDS | {"reason", "lang", "notice"}
    told: dict[str, Any] = dict(visit.path)  # no field of a form may say that it was about something else
    for name in fields.names():
        if name not in left_out and name not in visit.path:
            values = fields.all(name)
            told[name] = values[0] if len(values) == 1 else values
    return told


def _to_sign_in(request: Request, found: dict[bytes, bytes]) -> Response:
    if b"hx-request" in found:
        return Response("", 401, headers={"hx-redirect": "/login"})
    target = _target(request) if request.method in ("GET", "HEAD") else "/"
    return to("/login", **({"next": target} if is_own_path(target) and target != "/" else {}))


def malformed_path() -> MalformedError:
    """For a path with an id that cannot be one."""
    return MalformedError("The address has something that is no number.", field="path")


def _in_language(texts: Texts, language: str, sentence: str) -> str:
    """A refusal's sentence: a page's own, the engine's, or one per field."""
    if not sentence:
        return ""
    own = texts.anywhere(language, sentence)
    return own if own != sentence else sentences.fields_in_language(texts.of(language).gettext, sentence)
