"""A page of the console as data, and one request of a signed-in operator for it."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import time_ns
from typing import Any
from urllib.parse import urlencode

from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from api.console import book_sentences, csv_files, sentences, strangers
from api.console.action_names import ACTION_NAMES
from api.console.bounds import Bounds
from api.console.desk import Desk, Front
from api.console.forms import Fields
from api.console.navigation import NAVIGATION
from api.console.notices import NOTICES
from api.console.rendering import translating
from api.console.texts import HTML_LANGUAGES, LANGUAGES
from engine.errors import FieldProblem, InvalidFieldsError
from engine.operators.accounts import Operator
from engine.operators.approvals import Performed
from engine.operators.log import FAILED, OK, Actor
from engine.operators.refusals import TooManyTriesError, UnknownApprovalError
from engine.operators.sessions import Session
from engine.text import LINE_CHARACTERS, is_readable

REASON_LENGTH_MAX = 500
KEY_LENGTH = 32
SIGNED_IN = ""
"""The permission of pages that every operator may see."""


@dataclass(frozen=True, slots=True)
class Page:
    """One row of the route table.

    - ``permission``: ``resource:action``; SIGNED_IN: every operator's.
    - ``action``: how the log names a POST. Unset: its path.
    - ``subject``: the kind of what the page is about, and the name of the path's or the form's field with its id.
    - ``is_look``: each look is in the log, for the page shows a person's money.
    - ``is_export``: each file is in the log, before it is made and after it (``Visit.file``).
    - ``needs_proof``: its form needs a code if the operator's last one is older than ten minutes. For whatever moves
      money or lets it move, rebuilds a lane, or changes operators.
    - ``asks_by_itself``: a page's script asks for it, so it does not keep a session awake.
    """

    method: str
    path: str
    endpoint: "Callable[[Visit], Awaitable[Response]]"
    permission: str
    action: str = ""
    subject: tuple[str, str] = ("", "")
    is_look: bool = False
    is_export: bool = False
    needs_proof: bool = False
    asks_by_itself: bool = False


@dataclass(frozen=True, slots=True)
class PublicPage:
    """A row for a page that needs no session. It writes into the log itself what it does."""

    method: str
    path: str
    endpoint: "Callable[[Guest], Awaitable[Response]]"


class Guest:
    """One request of somebody who has not signed in. ``query``, ``form`` and ``path`` are texts by name.

    ``target``: the path and the query, as they came.
    """

    def __init__(
        self,
        desk: Desk,
        module: str,
        *,
        language: str,
        address: str,
        agent: str,
        bounds: Bounds,
        query: Fields,
        form: Fields,
        path: Mapping[str, str],
        target: str,
        cookies: Mapping[str, str],
    ) -> None:
        self.desk, self.language, self.address, self.agent, self.target = desk, language, address, agent, target
        self.query, self.form, self.path, self.cookies = query, form, path, cookies
        self._bounds = bounds
        self._texts = desk.front.texts.of(language, module)

    async def note_refusal(self, action: str, told: str, **more: Any) -> None:  # noqa: ANN401  # as ``note`` has them
        """A row of the log about somebody without a session who was refused, as ``strangers.note`` writes it."""
        await strangers.note(self.desk, self._bounds, self.address, action, told, **more)

    def take_try(self) -> None:
        """Count a try to sign in from this address. Raises TooManyTriesError if there were too many lately."""
        if not self._bounds.tries_of(self.address).take():
            raise TooManyTriesError("There were too many tries from this address. Wait a minute.")

    def gettext(self, text: str, **values: object) -> str:
        """A text in the person's language, with values for its ``%(name)s``."""
        translated = self._texts.gettext(text)
        return translated % values if values else translated

    def ngettext(self, one: str, many: str, count: int) -> str:
        """The same for a number of things, which ``%(num)s`` shows."""
        return self._texts.ngettext(one, many, count) % {"num": count}

    def common(self) -> dict[str, Any]:
        """What every template has."""
        return common_values(self.desk.front, self._texts, self.language, self.target)

    async def page(self, template: str, *, status: int = 200, **values: Any) -> Response:  # noqa: ANN401  # for a template
        """A whole page, or a part of one."""
        common = self.common()
        html = self.desk.front.templates.render(
            template, {**common, **await self._more(), "notice": self._notice(), **values}
        )
        return Response(html, status, media_type="text/html")

    def redirect(self, path: str, *, notice: str = "", **query: str | int) -> Response:
        """Send the browser to a page of ours with GET. ``notice``: one of ``NOTICES``, shown there."""
        return to(path, **query, **({"notice": notice} if notice else {}))

    def link(self, path: str, **changes: str | int | None) -> str:
        """A path with this page's query, changed: None removes a field. For filters, pages and files."""
        fields = {name: self.query.text(name) for name in self.query.names() if name not in ("notice", "lang")}
        for name, value in changes.items():
            if value is None:
                fields.pop(name, None)
            else:
                fields[name] = str(value)
        return f"{path}?{urlencode(fields)}" if fields else path

    async def _more(self) -> dict[str, Any]:
        return {"visit": None, "operator": None}

    def _notice(self) -> str:
        """What the page before it has done, from a fixed list: a link cannot put words into our mouth."""
        text = NOTICES.get(self.query.text("notice"))
        return "" if text is None else self.gettext(text)


class Visit(Guest):
    """One request of a signed-in operator.

    ``asked``: the number of the log's row for an action. ``told``, ``did`` (what exactly was done, where the form says
    only "all" or "these") and ``approval_id`` go into the row of its outcome.
    """

    def __init__(self, desk: Desk, row: Page, session: Session, **what: Any) -> None:  # noqa: ANN401  # as Guest has them
        super().__init__(desk, row.endpoint.__module__.rpartition(".")[2], **what)
        self.row, self.session = row, session
        self.asked: int | None = None
        self.told = ""
        self.did: Mapping[str, Any] = {}
        self.approval_id: int | None = None

    @property
    def operator(self) -> Operator:
        """Who is asking."""
        return self.session.operator

    def may(self, permission: str) -> bool:
        """Whether the operator has this right. Templates ask it, too: what may not be done has no button."""
        return permission == SIGNED_IN or permission in self.operator.permissions

    @property
    def actor(self) -> Actor:
        """The same for the log."""
        operator, session_id = self.operator, self.session.session_id
        return Actor(name=operator.name, role=operator.role, address=self.address, session_id=session_id)

    async def _more(self) -> dict[str, Any]:
        waits = dict(await self.desk.badges.now())
        if self.may("approvals:read"):
            desk = self.desk
            waits["/approvals"] = await desk.approvals.to_decide_count(desk.actions, by=self.operator)
        return {
            "visit": self,
            "operator": self.operator,
            "navigation": _visible(self),
            "waits": waits,
            "key": secrets.token_hex(KEY_LENGTH // 2),
        }

    def reason(self) -> str:
        """The reason in the form. Raises InvalidFieldsError if it is missing, too long or unreadable."""
        reason = self.form.text("reason").replace("\r\n", "\n")
        if not reason or len(reason) > REASON_LENGTH_MAX or not is_readable(reason, allowed=LINE_CHARACTERS):
            why = f"must be said, in at most {REASON_LENGTH_MAX} readable characters"
            raise InvalidFieldsError([FieldProblem("reason", why)])
        return reason

    def key(self) -> str:
        """The form's own random key, by which a repeat is known. Raises InvalidFieldsError."""
        key = self.form.text("key")
        if len(key) != KEY_LENGTH or not key.isalnum() or not key.isascii():
            raise InvalidFieldsError([FieldProblem("key", "must be the form's own: open the page again")])
        return key

    async def perform(
        self,
        action: str,
        arguments: Mapping[str, Any],
        *,
        subject: tuple[str, str] | None = None,
        needs_reason: bool = True,
    ) -> Performed:
        """Do a registered action with the form's reason and key, or have it wait for another operator.

        ``needs_reason`` False: what is done says for itself why, as a note does.

        Raises InvalidFieldsError, NotPermittedError, and as the action does.
        """
        found = self.desk.actions.get(action)
        if found is None:
            raise UnknownApprovalError(f"No action is called {action}.")
        done = await self.desk.approvals.perform(
            found,
            self.desk,
            arguments=arguments,
            subject=subject or self.subject(),
            reason=self.reason() if needs_reason else "",
            by=self.operator,
            key=self.key(),
        )
        self.approval_id = done.approval_id
        if done.approval_id is not None:
            self.told = "it waits for another operator"
        elif done.is_alone:
            self.told = "without a second operator, because HONGBAO_CONSOLE_FOUR_EYES is false"
        if done.replayed:
            self.told = f"a repeat of the same form. {self.told}".strip()
        return done

    async def file(
        self,
        what: str,
        header: csv_files.Row,
        rows: AsyncIterator[csv_files.Row],
        *,
        rows_max: int = csv_files.ROWS_MAX,
    ) -> Response:
        """A CSV file of all these rows, streamed. The log has a row once it is sent, with how many rows it has.

        ``what``: the beginning of its name, in ASCII. The page's row must say ``is_export``. Raises TooManyRowsError.
        """
        file, count = await csv_files.whole(header, rows, rows_max=rows_max)
        is_sent = False

        def sent() -> None:
            nonlocal is_sent
            is_sent = True

        async def ended() -> None:
            file.close()
            outcome, told = (OK, f"{count} rows") if is_sent else (FAILED, "the file was not finished")
            action, subject = self.action, self.subject()
            await self.desk.log.write(self.actor, action, outcome, subject=subject, told=told, about=self.asked)

        name = csv_files.name_of(what, time_ns() // 1_000_000)
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return _File(csv_files.pieces(file, sent), ended, headers)

    def name_of(self, action: str) -> str:
        """An action's name in the operator's language."""
        return self.desk.front.texts.anywhere(self.language, ACTION_NAMES.get(action, action))

    @property
    def action(self) -> str:
        """How the log names what is asked for."""
        return self.row.action or f"{self.row.method} {self.row.path}"

    def subject(self) -> tuple[str, str]:
        """What the page is about: its kind and its id, for the log."""
        kind, name = self.row.subject
        return kind, self.path.get(name) or self.form.text(name) or self.query.text(name) if name else ""


class _File(StreamingResponse):
    """A CSV file. ``ended``: called once it is sent, or its reader has hung up."""

    def __init__(
        self, pieces: AsyncIterator[bytes], ended: Callable[[], Awaitable[None]], headers: Mapping[str, str]
    ) -> None:
        super().__init__(pieces, media_type="text/csv; charset=utf-8", headers=headers)
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. What makes the pieces is cancelled if nobody reads them any more, so it cannot call ``ended``."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._ended()


def common_values(front: Front, texts: Any, language: str, target: str) -> dict[str, Any]:  # noqa: ANN401  # gettext's
    """What every template has, signed in or not."""
    return {
        **translating(texts),
        "spoken": sentences.teller(texts.gettext),
        "stated": book_sentences.stater(texts.gettext),
        "who": book_sentences.namer(texts.gettext),
        "language": language,
        "html_language": HTML_LANGUAGES[language],
        "languages": LANGUAGES,
        "target": target,
        "other_languages": [(code, name, _in_language(target, code)) for code, name in LANGUAGES.items()],
        "front": front,
    }


def to(path: str, **query: str | int) -> Response:
    """A redirect to a path of ours."""
    if not is_own_path(path):
        path = "/"
    separator = "&" if "?" in path else "?"
    return RedirectResponse(f"{path}{separator}{urlencode(query)}" if query else path, status_code=303)


def is_own_path(path: str) -> bool:
    """Whether a redirect to this stays here. ``//host``, ``/\\host`` and what has controls would not."""
    return path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and "\\" not in path


def _in_language(target: str, language: str) -> str:
    path, _, query = target.partition("?")
    kept = [part for part in query.split("&") if part and not part.startswith(("lang=", "notice="))]
    return f"{path}?{'&'.join([*kept, f'lang={language}'])}"


def _visible(visit: Visit) -> list[tuple[str, list[tuple[str, str, bool]]]]:
    """The navigation by sections: the path and the name of what the operator may see, and whether they are there."""
    here = visit.target.partition("?")[0]
    texts = visit.desk.front.texts.of(visit.language)
    shown = []
    for title, entries in NAVIGATION:
        links = [
            (path, texts.gettext(name), here == path or (path != "/" and here.startswith(f"{path}/")))
            for path, name, permission in entries
            if path in visit.desk.front.paths and visit.may(permission)
        ]
        if links:
            shown.append((texts.gettext(title) if title else "", links))
    return shown
