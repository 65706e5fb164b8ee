"""The grab page for tests: a front with everything behind it, and the page opened as a user's phone opens it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from playwright.async_api import Browser

from engine.access.tokens import issue
from engine.engine import Engine
from engine.settings import Settings
from tests.support.chromium import PHONE, Opened, Tabs, opened
from tests.support.coupons import with_keys
from tests.support.front import CHECKED, Client, new_key
from tests.support.scenes import persisting, sweeping
from tests.support.served import serving_here

CALM: dict[str, Any] = {**PHONE, "reduced_motion": "reduce"}
"""A phone whose user wants no motion: nothing has to be waited for."""


@dataclass(frozen=True, slots=True)
class Front:
    """A server with its persister and sweeper, a client of it, and a browser that opens its pages."""

    browser: Browser
    client: Client
    origin: str
    engine: Engine
    tabs: Tabs

    def token(self, user: str, *scopes: str) -> str:
        """A user's own token, as a merchant's backend puts it into the fragment."""
        return issue(self.client.secret, user, scopes or ("claim",), 3_600)

    def address(self, path: str, user: str | None = None, language: str = "zh") -> str:
        """A page's address, with a user's token if one is named."""
        fragment = "" if user is None else f"#t={self.token(user)}"
        return f"{self.origin}{path}?lang={language}{fragment}"

    @asynccontextmanager
    async def opened(
        self,
        path: str,
        user: str | None = None,
        language: str = "zh",
        **options: Any,  # noqa: ANN401  # playwright's
    ) -> AsyncIterator[Opened]:
        """A page as a user's phone shows it."""
        async with opened(self.browser, self.origin, **{**CALM, **options}) as shown:
            await shown.page.goto(self.address(path, user, language))
            yield shown

    @asynccontextmanager
    async def reopened(
        self,
        path: str,
        user: str | None = None,
        language: str = "zh",
        **options: Any,  # noqa: ANN401  # playwright's
    ) -> AsyncIterator[Opened]:
        """The same on a phone that showed other pages before (``tests.support.chromium.Tabs``): much quicker."""
        async with self.tabs.opened(**{**CALM, **options}) as shown:
            await shown.page.goto(self.address(path, user, language))
            yield shown

    async def admin(self, method: str, path: str, body: object = None) -> None:
        """Something that an admin does."""
        headers = self.client.as_user("root", "admin") | new_key()
        answer = await self.client.http.request(method, path, json=body, headers=headers)
        assert answer.status_code < 300, answer.text


@asynccontextmanager
async def front_of(browser: Browser, settings: Settings) -> AsyncIterator[Front]:
    """A front whose packets are booked and refunded."""
    settings = with_keys(settings)
    async with serving_here(settings) as served, persisting(settings), sweeping(settings):
        origin = f"http://127.0.0.1:{served.port}"
        async with httpx.AsyncClient(base_url=origin, event_hooks=CHECKED, timeout=30) as http:
            tabs = Tabs(browser, origin)
            yield Front(browser, Client(http, served.secret), origin, served.front.engine, tabs)
            await tabs.close()


async def face(shown: Opened, name: str, *, timeout_s: float = 15) -> None:
    """Wait until the page has this face."""
    await shown.page.wait_for_selector(f'body[data-face="{name}"]', timeout=timeout_s * 1000)


async def tap(shown: Opened) -> None:
    """Tap 开."""
    await shown.page.click("#open")


async def hand_over(shown: Opened, front: Front, path: str, user: str) -> None:
    """Open another user's link in the same tab, and wait for an answer to them. Only the fragment is another one."""
    token = front.token(user)
    async with shown.page.expect_response(
        lambda answer: answer.request.headers.get("authorization") == f"Bearer {token}"
    ):
        await shown.page.goto(f"{front.origin}{path}?lang=zh#t={token}")


async def double_the_text(shown: Opened, *, back: bool = False) -> None:
    """As web-views of Android do with the user's size: every text twice as large, and nothing else. Or ``back``."""
    await shown.page.evaluate(
        "back => { const all = Array.from(document.querySelectorAll('body, body *'));"
        " const sizes = all.map(one => parseFloat(getComputedStyle(one).fontSize));"
        " all.forEach((one, place) => { one.style.fontSize = back ? '' : 2 * sizes[place] + 'px'; }); }",
        back,
    )
