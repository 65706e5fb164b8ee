"""The console as a browser shows it: every page, in each language, light and dark, wide and narrow."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from api.console.gate import COOKIE
from api.console.pages import PAGES
from engine.operators.accounts import Operators
from engine.operators.log import OK, Actor, OperatorLog
from engine.operators.passwords import Passwords
from engine.settings import Settings
from tests.support.chromium import PHONE, SCROLLS_SIDEWAYS, Opened, opened, take_picture
from tests.support.console import PASSWORD, Staff, serving_console, staff_of

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]
WIDE = {"viewport": {"width": 1280, "height": 800}}
EACH_ROUTE_MAX = 1
"""How many pages of one route are looked at: others look at those with something on them."""
LOOKS: list[tuple[str, str, Literal["light", "dark"], bool]] = [
    ("admin", "zh", "light", False),
    ("finance", "en", "dark", True),
    ("finance", "zh", "dark", False),
    ("admin", "en", "light", True),
    ("admin", "zh", "dark", True),
    ("finance", "en", "light", False),
    ("operator", "zh", "light", True),
    ("risk", "en", "dark", False),
]
"""Role, language, colours, whether the window is a phone's."""
WITH_AXE = 4
"""In so many of them axe looks, too. It takes longer than all the rest."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(shared_settings: Settings) -> AsyncIterator[tuple[str, Staff]]:
    """A console with an approval that waits, operators of all kinds and a log."""
    async with serving_console(shared_settings) as (origin, _), staff_of(shared_settings) as staff:
        await staff.sign_up("bob", "viewer")
        await Operators(staff.pool, Passwords(64)).add("dora", "risk", by="tests")
        log = OperatorLog(staff.pool)
        for number in range(60):
            actor = Actor(name="bob", role="viewer", address="192.0.2.7", session_id=number)
            subject = ("packet", str(1_010_001_234_567_890_000 + number))
            await log.write(
                actor, "approve", OK, subject=subject, reason="因为用户申诉 " * 8, arguments={"amount": "12.34"}
            )
        yield origin, staff


async def signed_in(shown: Opened, origin: str, staff: Staff, role: str) -> None:
    """Put a session of a new operator of this role into the browser."""
    count = await staff.pool.fetchval("SELECT count(*) FROM operators")
    token = await staff.token(f"{role}-{count}", role)
    secure = origin.replace("http:", "https:")  # Chromium's own tools put a cookie for TLS only there
    await shown.context.add_cookies([{"name": COOKIE, "value": token, "url": secure, "secure": True}])


def route_of(path: str) -> str:
    for row in PAGES:
        if row.method == "GET" and re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", row.path), path):
            return row.path
    return path


@pytest.mark.long
@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
async def test_every_page_is_clean(browser: Browser, served: tuple[str, Staff], narrow: bool) -> None:
    origin, staff = served
    wrong: list[str] = []
    async with opened(browser, origin, **(PHONE if narrow else WIDE)) as shown:
        for look in LOOKS:
            role, language, scheme, is_narrow = look
            if is_narrow == narrow:
                await shown.page.emulate_media(color_scheme=scheme)
                await signed_in(shown, origin, staff, role)
                found = await crawl(shown, origin, language, with_axe=look in LOOKS[:WITH_AXE])
                wrong += [f"{role}, {language}, {scheme}: {one}" for one in found]
    assert wrong == []


_LOOK = f"""() => ({{
    language: document.documentElement.lang,
    scrolls: {SCROLLS_SIDEWAYS},
    violations: window.policyViolations || [],
    links: Array.from(new Set(Array.from(document.querySelectorAll("a[href^='/']"), one => one.getAttribute("href")))),
}})"""


async def crawl(shown: Opened, origin: str, language: str, *, with_axe: bool) -> list[str]:
    """What is wrong with the pages that can be reached, one of each route."""
    await shown.page.goto(f"{origin}/?lang={language}")
    waiting, seen, wrong = ["/", "/me", "/search?q=a", "/login", "/nothing"], dict[str, int](), list[str]()
    while waiting:
        target = waiting.pop(0)
        route = route_of(target.partition("?")[0])
        if seen.get(route, 0) >= EACH_ROUTE_MAX or ".csv" in target or "lang=" in target:
            continue
        seen[route] = seen.get(route, 0) + 1
        await shown.page.goto(f"{origin}{target}")
        if with_axe:
            wrong += [f"{target}: {found}" for found in await shown.inaccessible()]
        looked = await shown.page.evaluate(_LOOK)  # all at once, for each question is a way through three processes
        assert looked["language"] == ("zh-CN" if language == "zh" else "en")
        if looked["scrolls"]:
            wrong.append(f"{target} is wider than its window")
        wrong += [f"{target}: {found}" for found in looked["violations"]]
        waiting += looked["links"]
    assert {"/", "/approvals", "/log", "/system", "/me"} <= set(seen)
    return wrong


@pytest.mark.long
async def test_a_person_signs_in_finds_and_signs_out_by_the_keyboard(
    browser: Browser, served: tuple[str, Staff], pictures: Path | None
) -> None:
    origin, staff = served
    _, secret = await staff.sign_up("kim", "finance")
    async with opened(browser, origin, **WIDE) as shown:
        page = shown.page
        await page.goto(f"{origin}/log?operator=bob")
        assert page.url == f"{origin}/login?next=%2Flog%3Foperator%3Dbob"
        await take_picture(shown, pictures, "console-sign-in")
        await page.keyboard.type("kim")
        await page.keyboard.press("Tab")
        await page.keyboard.type(PASSWORD)
        await page.keyboard.press("Tab")
        await page.keyboard.type(await staff.code(secret, "kim"))
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"{origin}/log?operator=bob")
        assert await page.locator("tbody tr").count() == 50
        await take_picture(shown, pictures, "console-log")
        (cookie,) = [one for one in await shown.context.cookies() if one["name"] == COOKIE]
        assert cookie["secure"]
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Strict"
        await page.keyboard.press("/")
        assert await page.evaluate("document.activeElement.id") == "find"
        await page.keyboard.type("kim")
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"{origin}/search?q=kim")
        await page.go_back()
        assert await page.locator("tbody tr").count() == 50
        await page.get_by_role("button", name="退出登录").click()
        await page.wait_for_url(f"{origin}/login?notice=signed_out")
        await page.goto(f"{origin}/log")
        assert "/login" in page.url


FOREIGN = "http://evil.test"


async def test_a_page_of_another_origin_changes_nothing(browser: Browser, served: tuple[str, Staff]) -> None:
    """Its form is sent by the browser itself, with what a browser sends."""
    origin, staff = served
    fields = "".join(
        f'<input name="{name}" value="{value}">'
        for name, value in (("name", "eve"), ("role", "admin"), ("reason", "x"))
    )
    page = f'<form method="post" action="{origin}/operators">{fields}<button>win a prize</button></form>'
    async with opened(browser, FOREIGN, **WIDE) as shown:
        await signed_in(shown, origin, staff, "admin")
        await shown.context.route(f"{FOREIGN}/**", lambda route: route.fulfill(body=page, content_type="text/html"))
        await shown.page.goto(f"{FOREIGN}/")
        await shown.page.get_by_role("button").click()
        await shown.page.wait_for_url(f"{origin}/operators")
        assert "不允许这样操作" in await shown.page.inner_text("h1")
        shown.complaints.clear()  # that it went elsewhere is what is tried here
    assert await staff.pool.fetchval("SELECT count(*) FROM operators WHERE name = 'eve'") == 0
    told = await staff.pool.fetchval("SELECT told FROM operator_log ORDER BY number DESC LIMIT 1")
    assert told == "it did not come from a page of the console"
