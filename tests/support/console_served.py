"""The console on a real socket of this machine, for browsers."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from playwright.async_api import Browser

from api.console.app import create_app
from api.console.gate import COOKIE
from api.console.server import _Server
from engine.settings import Settings
from tests.support.chromium import Opened, opened
from tests.support.console import Console
from tests.support.waiting import wait_until


@dataclass(frozen=True, slots=True)
class ServedConsole:
    """The console, and its address."""

    console: Console
    origin: str

    @asynccontextmanager
    async def signed_in(self, browser: Browser, role: str, **options: Any) -> AsyncIterator[Opened]:  # noqa: ANN401
        """An empty page of an operator's browser."""
        person = await self.console.person(role)
        token = person.http.cookies[COOKIE]
        async with opened(browser, self.origin, **options) as shown:
            await shown.context.add_cookies(
                [{"name": COOKIE, "value": token, "url": self.origin.replace("http:", "https:"), "secure": True}]
            )
            yield shown


@asynccontextmanager
async def served_console(settings: Settings) -> AsyncIterator[ServedConsole]:
    """The console until the end of the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    app = create_app(settings, port)
    async with app.router.lifespan_context(app):
        server = _Server(app, None, settings)
        task = asyncio.create_task(server.serve([listener]))
        await wait_until(lambda: server.started, what="the console listening")
        console = Console(app.state.desk, app)
        try:
            yield ServedConsole(console, f"http://127.0.0.1:{port}")
        finally:
            for person in console.people.values():
                await person.http.aclose()
            server.should_exit = True
            await task
