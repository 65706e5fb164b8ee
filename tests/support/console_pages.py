"""The console's application on a test's servers, and an operator of a role who is signed in."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape
from typing import Any

import httpx

from api.console.app import create_app
from api.console.desk import Desk
from api.console.gate import COOKIE
from engine.operators.log import COMMAND_LINE
from engine.settings import Settings

PORT = 8081
ORIGIN = f"http://127.0.0.1:{PORT}"
_HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')


@dataclass(frozen=True, slots=True)
class Seat:
    """An operator who is signed in, and their browser."""

    client: httpx.AsyncClient
    name: str

    async def get(self, path: str, status: int = 200) -> str:
        """The text of a page in English."""
        answer = await self.client.get(path, headers={"accept-language": "en"})
        assert answer.status_code == status, (path, answer.status_code, words(answer.text)[:2_000])
        return answer.text

    async def rows(self, path: str) -> list[str]:
        """Each row of all tables of a page, as words."""
        return rows(await self.get(path))

    async def post(self, path: str, page: str, status: int = 303, **fields: Any) -> httpx.Response:
        """Send a form of a page: its hidden fields, with these changed."""
        values = {**hidden(page, path), "reason": "seen", **fields}
        answer = await self.client.post(path, data=values, headers={"sec-fetch-site": "same-origin", "origin": ORIGIN})
        assert answer.status_code == status, (path, answer.status_code, words(answer.text)[:2_000])
        return answer


@asynccontextmanager
async def open_console(settings: Settings) -> AsyncIterator["Console"]:
    """The application, without a socket."""
    app = create_app(settings, PORT)
    async with app.router.lifespan_context(app):
        yield Console(app, app.state.desk)


@dataclass(frozen=True, slots=True)
class Console:
    """The application and what it has."""

    app: Any
    desk: Desk

    async def seat(self, role: str, name: str | None = None) -> Seat:
        """An operator of a role, signed in."""
        name = name or role
        await self.desk.operators.add(name, role, by=COMMAND_LINE.name)
        operator_id = await self.desk.engine.pool.fetchval("SELECT operator_id FROM operators WHERE name = $1", name)
        operator = next(one for one in [await _operator(self.desk, operator_id)])
        token, _ = await self.desk.sessions.begin(operator, address="127.0.0.1", agent="test")
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url=ORIGIN, cookies={COOKIE: token}, timeout=30
        )
        return Seat(client, name)


async def _operator(desk: Desk, operator_id: int) -> Any:  # noqa: ANN401
    from engine.operators.accounts import Operator

    row = await desk.engine.pool.fetchrow("SELECT * FROM operators WHERE operator_id = $1", operator_id)
    assert row is not None
    return Operator(operator_id=row["operator_id"], name=row["name"], role=row["role"], language="en")


def words(page: str) -> str:
    """A page's text without tags."""
    body = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def rows(page: str) -> list[str]:
    """Each row of all tables' bodies, as words."""
    bodies = re.findall(r"<tbody>(.*?)</tbody>", page, flags=re.S)
    return [words(row) for body in bodies for row in re.findall(r"<tr[^>]*>(.*?)</tr>", body, flags=re.S)]


def hidden(page: str, path: str) -> dict[str, str]:
    """The hidden fields of the form of a page that goes to a path."""
    for form in re.findall(r"<form[^>]*>.*?</form>", page, flags=re.S):
        if f'action="{path}"' in form and 'method="post"' in form:
            return {name: unescape(value) for name, value in _HIDDEN.findall(form)}
    raise AssertionError(f"no form goes to {path}")
