"""The console in this process: its application without a socket, on a test's servers, and operators who use it."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import httpx

from api.console.app import create_app
from api.console.desk import Desk
from api.console.gate import COOKIE
from engine.operators import codes
from engine.operators.accounts import Operator
from engine.operators.roles import ADMIN
from engine.settings import Settings

ORIGIN = "https://console.test"
PASSWORD = "correct horse battery"
SAME_ORIGIN = {"sec-fetch-site": "same-origin"}


@dataclass
class Person:
    """An operator with a browser. ``secret``: of their authenticator."""

    http: httpx.AsyncClient
    operator: Operator
    secret: str
    step: int = 0

    @property
    def name(self) -> str:
        return self.operator.name

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.http.get(path, headers={"accept-language": "en", **headers})

    async def post(self, path: str, form: dict[str, str] | None = None, **headers: str) -> httpx.Response:
        return await self.http.post(path, data=form or {}, headers={"accept-language": "en", **SAME_ORIGIN, **headers})

    async def act(self, path: str, **form: str) -> httpx.Response:
        """Post an action's form: with a new key and a reason, unless these are given."""
        return await self.post(path, {"key": new_key(), "reason": "a test", **form})


@dataclass
class Console:
    """The application, and what it stands on."""

    desk: Desk
    app: object
    people: dict[str, Person] = field(default_factory=dict)

    def browser(self) -> httpx.AsyncClient:
        """A browser that knows nothing yet."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=ORIGIN)  # type: ignore[arg-type]

    async def person(self, role: str = ADMIN, name: str | None = None) -> Person:
        """An operator of this role, signed in a moment ago. The same name is the same person."""
        name = name or f"{role}-{len(self.people) + 1}"
        link = await self.desk.operators.add(name, role, by="tests")
        set_up = await self.desk.operators.set_up(link)
        now_ms = await clock_ms(self.desk)
        code = codes.code_at(set_up.totp_secret, now_ms)
        operator = await self.desk.operators.finish_set_up(link, PASSWORD, code)
        token, _ = await self.desk.sessions.begin(operator, address="127.0.0.1", agent="tests")
        http = self.browser()
        http.cookies.set(COOKIE, token, domain="console.test")
        person = Person(http, operator, set_up.totp_secret)
        self.people[name] = person
        return person

    async def code(self, person: Person) -> str:
        """A code that the person's authenticator shows, and that was not used."""
        await self.desk.engine.pool.execute("UPDATE operators SET totp_step = 0 WHERE name = $1", person.name)
        return codes.code_at(person.secret, await clock_ms(self.desk))


@asynccontextmanager
async def open_console(settings: Settings) -> AsyncIterator[Console]:
    """The whole console, as behind a proxy with TLS."""
    app = create_app(settings.model_copy(update={"console_origin": ORIGIN}), 443)
    async with app.router.lifespan_context(app):
        console = Console(app.state.desk, app)
        yield console
        for person in console.people.values():
            await person.http.aclose()


async def clock_ms(desk: Desk) -> int:
    at_ms: int = await desk.engine.pool.fetchval("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint")
    return at_ms


def new_key() -> str:
    return uuid4().hex


def words_of(html: str) -> str:
    """A page's text without tags, each run of blanks as one."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())
