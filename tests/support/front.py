"""The HTTP front for tests: the application with its real servers, and clients with tokens of any kind."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

from api.app import create_app
from engine.access.tokens import issue, load_secret
from engine.settings import Settings
from tests.support import documented
from tests.support.ports import held_port
from tests.support.waiting import wait_until
from tests.support.warm import Forked, warm

Json = dict[str, Any]
CHECKED = {"response": [documented.check]}
"""Every error that the tests' clients are answered must be in the OpenAPI document."""


@dataclass(frozen=True, slots=True)
class Client:
    """Requests to one front, and the secret its tokens are signed with."""

    http: httpx.AsyncClient
    secret: bytes

    def as_user(self, user: str, *scopes: str, ttl_s: int = 3_600) -> dict[str, str]:
        """The header of a user's own token."""
        return {"authorization": f"Bearer {issue(self.secret, user, scopes or ('send', 'claim'), ttl_s)}"}

    def as_backend(self, speaks_for: str | None = None, *scopes: str) -> dict[str, str]:
        """The headers of a backend, speaking for a user or for no one."""
        headers = self.as_user("backend", "act", *scopes)
        return headers if speaks_for is None else {**headers, "x-user-id": speaks_for}

    async def deposit(self, user: str, amount_fen: int) -> None:
        """Give a user money."""
        headers = self.as_user("root", "admin") | new_key()
        answer = await self.http.post(f"/v1/wallets/{user}/deposits", json={"amount_fen": amount_fen}, headers=headers)
        assert answer.status_code == 201, answer.text

    async def send(self, user: str, **terms: object) -> str:
        """Send a packet that the user is given the money for; its number."""
        body: Json = {"total_fen": 1_000, "count": 10, "split": "lucky", **terms}
        await self.deposit(user, body["total_fen"])
        answer = await self.http.post("/v1/packets", json=body, headers=self.as_user(user) | new_key())
        assert answer.status_code == 201, answer.text
        return str(answer.json()["packet_id"])

    async def withdraw(self, user: str, amount_fen: int = 1) -> str:
        """Give a user the payment password 135790, and withdraw with it; the withdrawal's number."""
        path, headers = f"/v1/wallets/{user}", self.as_user(user) | new_key()
        put = await self.http.put(f"{path}/payment-password", json={"password": "135790"}, headers=headers)
        assert put.status_code == 200, put.text
        body: Json = {"amount_fen": amount_fen, "bank_account": "6222020200112233", "payment_password": "135790"}
        answer = await self.http.post(f"{path}/withdrawals", json=body, headers=headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["withdrawal_id"])

    async def claim(self, packet_id: str, user: str) -> Json:
        """Claim as the user."""
        answer = await self.http.post(f"/v1/packets/{packet_id}/claims", headers=self.as_user(user))
        assert answer.status_code == 200, answer.text
        result: Json = answer.json()
        return result


def new_key() -> dict[str, str]:
    """The header of an Idempotency-Key nobody used."""
    return {"idempotency-key": uuid4().hex}


@asynccontextmanager
async def open_front(settings: Settings) -> AsyncIterator[Client]:
    """The application in this process, reached without a socket. Errors it did not answer are raised here."""
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://front", event_hooks=CHECKED) as http,
    ):
        yield Client(http, load_secret(settings))


_SERVE = """
import json, sys
import uvloop
from engine.observability import logs
from engine.errors import OperatorError
from api.server import serve
from engine.settings import Settings
logs.configure("api")
try:
    uvloop.run(serve(Settings.model_validate_json(sys.argv[1])))
except OperatorError as error:
    sys.exit(str(error))
"""


def spawn(settings: Settings) -> Forked:
    """A process of its own that serves by ``settings``; its end is the caller's business."""
    return warm().start(_SERVE, settings.model_dump_json())


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[Client, Forked]]:
    """A real server process on a port of its own, and a client of it."""
    with held_port() as port:
        settings = settings.model_copy(update={"port": port})
        secret = load_secret(settings)
        process = spawn(settings)
        try:
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}",
                limits=httpx.Limits(max_connections=200),
                timeout=30,
                event_hooks=CHECKED,
            ) as http:

                async def is_ready() -> bool:
                    try:
                        return (await http.get("/readyz")).status_code == 200
                    except httpx.TransportError:
                        assert process.returncode is None, process.said()
                        return False

                await wait_until(is_ready, timeout_s=20, what="the server being ready")
                yield Client(http, secret), process
        finally:
            process.kill()
            await process.wait()
