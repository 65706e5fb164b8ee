"""The live page in a real Chromium: charts, words, gaps, and what a person chooses."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
import pytest_asyncio
from PIL import Image
from playwright.async_api import Browser

from api.console.live.points import BOUNDS_S, Point
from engine.operators.roles import FINANCE, VIEWER
from engine.settings import Settings
from tests.support.chromium import PHONE, Opened, take_picture
from tests.support.console_served import ServedConsole, served_console
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(shared_settings: Settings) -> AsyncIterator[ServedConsole]:
    async with served_console(shared_settings) as console:
        yield console


def storm(served: ServedConsole, seconds: int = 120) -> None:
    """Points as of a storm in the last two minutes. The sampler goes on after them, and finds nobody."""
    ring, now_ms = served.console.desk.live.sampler.ring, int(time.time() * 1_000)
    ring._points.clear()
    for second in range(seconds):
        fast = [0] * len(BOUNDS_S)
        fast[3], fast[5], fast[7] = 500 + 10 * second, 40, second % 7
        ring._points.append(
            Point(
                at_ms=now_ms - (seconds - second) * 1_000,
                elapsed_ms=1_000,
                counts={
                    "claims.claimed": 500 + 10 * second,
                    "claims.empty": 900,
                    "batch.claims": 900,
                    "batch.calls": 90,
                },
                gauges={"lag.seconds": second % 5 / 10, "lag.events": second * 3.0, "lag.backlog": second * 4.0},
                buckets=fast,
            )
        )


async def points(shown: Opened) -> int:
    found: int = await shown.page.evaluate("window.liveUpdates ? window.liveUpdates.points() : 0")
    return found


async def is_drawn(shown: Opened) -> bool:
    return bool(await shown.page.evaluate("window.liveUpdates.count > 0"))


@pytest.mark.long
async def test_the_page_says_that_nobody_answers(
    browser: Browser, served: ServedConsole, pictures: Path | None
) -> None:
    async with served.signed_in(browser, VIEWER, locale="zh-CN") as shown:
        await shown.page.goto(f"{served.origin}/live")
        await shown.page.wait_for_selector("#live-silence:not([hidden])", timeout=8_000)
        assert "没有 API 进程应答" in await shown.page.inner_text("#live-silence")
        assert await shown.page.locator(".plot canvas").count() == 7
        assert await shown.inaccessible() == []
        await take_picture(shown, pictures, "live-blind")


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_storm_can_be_read_by_everybody(
    browser: Browser, served: ServedConsole, scheme: Literal["light", "dark"], pictures: Path | None
) -> None:
    storm(served)
    async with served.signed_in(browser, VIEWER, color_scheme=scheme) as shown:
        await shown.page.goto(f"{served.origin}/live?lang=en")
        await wait_until(lambda: points(shown), what="points")
        status = await shown.page.inner_text("#live-status")
        assert "claims per second, p99" in status
        assert "NaN" not in await shown.page.inner_text("main")
        rows = await shown.page.locator("#live-minute tr").all_inner_texts()
        assert len(rows) == 6
        assert await shown.inaccessible() == []
        assert not await shown.scrolls_sideways()
        await take_picture(shown, pictures, f"live-{scheme}")


@pytest.mark.long
async def test_it_fits_a_phone(browser: Browser, served: ServedConsole, pictures: Path | None) -> None:
    storm(served)
    async with served.signed_in(browser, VIEWER, **PHONE) as shown:
        await shown.page.goto(f"{served.origin}/live")
        await wait_until(lambda: points(shown), what="points")
        assert not await shown.scrolls_sideways()
        assert await shown.inaccessible() == []
        await take_picture(shown, pictures, "live-phone")


@pytest.mark.long
async def test_the_wall_is_dark_and_large_whatever_the_scheme(
    browser: Browser, served: ServedConsole, pictures: Path | None
) -> None:
    storm(served)
    async with served.signed_in(
        browser, VIEWER, color_scheme="light", viewport={"width": 1920, "height": 1080}
    ) as shown:
        await shown.page.goto(f"{served.origin}/live?wall=1&window=300&refresh=2")
        await wait_until(lambda: points(shown), what="points")
        assert await shown.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(11, 12, 11)"
        assert await shown.page.locator("button, select, nav, a:not(.skip)").count() == 0
        size = await shown.page.evaluate(
            "parseFloat(getComputedStyle(document.querySelector('.figure .value')).fontSize)"
        )
        assert size >= 40
        assert await shown.inaccessible() == []
        await wait_until(lambda: is_drawn(shown), what="the charts")
        page_height, wall_height = await shown.page.evaluate(
            "[document.documentElement.clientHeight, document.body.getBoundingClientRect().height]"
        )
        assert wall_height >= page_height, "below the wall is the light page"
        await take_picture(shown, pictures, "live-wall")


@pytest.mark.long
async def test_what_is_chosen_is_in_the_address_and_stays(browser: Browser, served: ServedConsole) -> None:
    storm(served)
    async with served.signed_in(browser, VIEWER) as shown:
        page = shown.page
        await page.goto(f"{served.origin}/live")
        await page.select_option("#live-window", "900")
        await page.select_option("#live-refresh", "5")
        assert "window=900" in page.url
        assert "refresh=5" in page.url
        await page.reload()
        assert await page.input_value("#live-window") == "900"
        assert await page.input_value("#live-refresh") == "5"
        await wait_until(lambda: points(shown), what="the points after the reload")
        assert "window=900" in (await page.get_attribute("a[href*='wall=1']", "href") or "")


async def asked_within(shown: Opened, seconds: float) -> int:
    """How often the page asks for points in so many seconds."""
    before = len(shown.requests)
    await asyncio.sleep(seconds)
    return sum("/live.json" in request.url for request in shown.requests[before:])


@pytest.mark.long
async def test_it_asks_each_second_and_not_while_it_is_paused_off_or_hidden(
    browser: Browser, served: ServedConsole
) -> None:
    storm(served)
    async with served.signed_in(browser, VIEWER) as shown:
        page = shown.page
        await page.goto(f"{served.origin}/live")
        await wait_until(lambda: points(shown), what="points")
        assert 1 <= await asked_within(shown, 3) <= 4
        await page.click("#live-pause")
        await asyncio.sleep(0.5)  # what was under way
        assert await asked_within(shown, 2) == 0
        await page.click("#live-pause")
        assert await asked_within(shown, 2) >= 1
        await page.select_option("#live-refresh", "0")
        await asyncio.sleep(0.5)
        assert await asked_within(shown, 2) == 0
        await page.select_option("#live-refresh", "1")
        # Chromium without a window never hides a page by itself.
        await page.evaluate(_HIDE, True)
        await asyncio.sleep(0.5)
        assert await asked_within(shown, 2) == 0
        await page.evaluate(_HIDE, False)
        assert await asked_within(shown, 2) >= 1


_HIDE = """isHidden => {
    Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


async def test_the_window_is_a_picture_and_a_file(browser: Browser, served: ServedConsole) -> None:
    storm(served)
    async with served.signed_in(browser, FINANCE) as shown:
        page = shown.page
        await page.goto(f"{served.origin}/live")
        await wait_until(lambda: points(shown), what="points")
        async with page.expect_download() as picture:
            await page.click("#live-png")
        saved = await picture.value
        with Image.open(await saved.path()) as image:
            assert image.width > 300
            assert image.height > 1_000
            assert len(image.convert("RGB").resize((200, 400)).getcolors(100_000) or []) > 20  # it is not blank
        async with page.expect_download() as file:
            await page.click("a[href^='/live.csv']")
        assert (await file.value).suggested_filename.startswith("live_")


@pytest.mark.long
async def test_an_ended_session_is_told(browser: Browser, served: ServedConsole) -> None:
    async with served.signed_in(browser, VIEWER) as shown:
        await shown.page.goto(f"{served.origin}/live?lang=en")
        await shown.context.clear_cookies()
        await shown.page.wait_for_selector("#live-silence:not([hidden])", timeout=8_000)
        await wait_until(lambda: is_told(shown, "The session has ended"), what="the sentence about the session")


async def is_told(shown: Opened, words: str) -> bool:
    return words in await shown.page.inner_text("#live-silence")
