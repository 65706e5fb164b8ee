"""The console in this process: its application without a socket, on a test's servers, and operators who use it."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import asyncpg
import httpx

from api.console.app import create_app
from api.console.desk import Desk
from api.console.gate import COOKIE
from api.console.visits import SIGNED_IN, Page
from engine.ledger.database import database_pool
from engine.ledger.money import now_ms
from engine.operators import codes
from engine.operators.accounts import Operator, Operators
from engine.operators.passwords import Passwords
from engine.operators.roles import ADMIN
from engine.operators.sessions import Sessions
from engine.settings import Settings
from tests.support.ports import held_port
from tests.support.waiting import wait_until
from tests.support.warm import Forked, warm

ORIGIN = "https://console.test"
PASSWORD = "correct horse battery"
SAME_ORIGIN = {"sec-fetch-site": "same-origin"}


@dataclass
class Person:
    """An operator with a browser. ``secret``: of their authenticator."""

    http: httpx.AsyncClient
    operator: Operator
    secret: str

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
        """A new operator of this role, signed in a moment ago."""
        name = name or f"{role}-{len(self.people) + 1}"
        operator, secret = await self.staff.sign_up(name, role)
        token, _ = await self.desk.sessions.begin(operator, address="127.0.0.1", agent="tests")
        http = self.browser()
        http.cookies.set(COOKIE, token, domain="console.test")
        person = Person(http, operator, secret)
        self.people[name] = person
        return person

    def may(self, person: Person, row: Page) -> bool:
        """Whether the page's right is the person's."""
        return row.permission == SIGNED_IN or row.permission in person.operator.permissions

    @property
    def staff(self) -> "Staff":
        """Those who work with it."""
        return Staff(self.desk.engine.pool)

    async def code(self, person: Person) -> str:
        """A code that the person's authenticator shows, and that was not used."""
        return await self.staff.code(person.secret, person.name)


@asynccontextmanager
async def open_console(settings: Settings) -> AsyncIterator[Console]:
    """The whole console, as behind a proxy with TLS."""
    app = create_app(settings.model_copy(update={"console_origin": ORIGIN}), 443)
    async with app.router.lifespan_context(app):
        console = Console(app.state.desk, app)
        yield console
        for person in console.people.values():
            await person.http.aclose()


def new_key() -> str:
    return uuid4().hex


def words_of(html: str) -> str:
    """A page's text without tags, each run of blanks as one."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


_SERVE = """
import sys
import uvloop
from engine.observability import logs
from engine.errors import OperatorError
from api.console.server import serve
from engine.settings import Settings
logs.configure("console")
try:
    uvloop.run(serve(Settings.model_validate_json(sys.argv[1])))
except OperatorError as error:
    sys.exit(str(error))
"""


def spawn_console(settings: Settings) -> Forked:
    """A process of its own that serves the console; its end is the caller's business."""
    return warm().start(_SERVE, settings.model_dump_json())


@asynccontextmanager
async def serving_console(settings: Settings) -> AsyncIterator[tuple[str, Forked]]:
    """A real console process on a port of its own, and its origin."""
    with held_port() as port:
        process = spawn_console(settings.model_copy(update={"console_port": port}))
        origin = f"http://127.0.0.1:{port}"
        try:
            async with httpx.AsyncClient(base_url=origin) as http:

                async def is_ready() -> bool:
                    try:
                        return (await http.get("/readyz")).status_code == 200
                    except httpx.TransportError:
                        assert process.returncode is None, process.said()
                        return False

                await wait_until(is_ready, timeout_s=20, what="the console being ready")
            yield origin, process
        finally:
            process.kill()
            await process.wait()


@dataclass
class Staff:
    """Operators made beside the console, in its database."""

    pool: asyncpg.Pool

    async def sign_up(self, name: str, role: str) -> tuple[Operator, str]:
        """An operator who can sign in with ``PASSWORD``, and the secret of their authenticator."""
        operators = Operators(self.pool, Passwords(64))
        link = await operators.add(name, role, by="tests")
        secret = (await operators.set_up(link)).totp_secret
        operator = await operators.finish_set_up(link, PASSWORD, await self.code(secret))
        return operator, secret

    async def token(self, name: str, role: str) -> str:
        """A session's token of a new operator."""
        operator, _ = await self.sign_up(name, role)
        token, _ = await Sessions(self.pool).begin(operator, address="127.0.0.1", agent="tests")
        return token

    async def code(self, secret: str, name: str | None = None) -> str:
        """A code that was not used."""
        if name is not None:
            await self.pool.execute("UPDATE operators SET totp_step = 0 WHERE name = $1", name)
        return codes.code_at(secret, await now_ms(self.pool))


@asynccontextmanager
async def staff_of(settings: Settings) -> AsyncIterator[Staff]:
    """Operators of the settings' database."""
    pool = await database_pool(settings.database_url or "", connections_max=2, timeout_s=10)
    try:
        yield Staff(pool)
    finally:
        await pool.close()
