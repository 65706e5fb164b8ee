"""The live page in a real Chromium: charts, words, gaps, what a person chooses, and what it costs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from engine.operators.roles import VIEWER
from engine.settings import Settings
from tests.support.chromium import take_picture
from tests.support.console_served import ServedConsole, served_console

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(shared_settings: Settings) -> AsyncIterator[ServedConsole]:
    async with served_console(shared_settings) as console:
        yield console


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
