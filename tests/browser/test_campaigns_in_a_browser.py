"""The console's campaigns and pictures as an operator sees them: in Chromium, in both languages, on a phone too."""

from datetime import date
from pathlib import Path

import pytest
from playwright.async_api import Browser

from api.console.gate import COOKIE
from engine.engine import Engine
from engine.operators.roles import FINANCE, OPERATOR
from engine.risk.limits import AccountKind
from engine.settings import Settings
from tests.support.analysis_scene import lively
from tests.support.chinese_font import needs_chinese_font
from tests.support.chromium import PHONE, Opened, opened, take_picture
from tests.support.console import serving_console, staff_of
from tests.support.rains import make
from tests.support.scenes import fund

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module"), pytest.mark.long]


async def sign_in(view: Opened, origin: str, token: str) -> None:
    await view.context.add_cookies(
        [{"name": COOKIE, "value": token, "url": origin.replace("http:", "https:"), "secure": True, "httpOnly": True}]
    )


async def looks_well(view: Opened) -> None:
    assert await view.inaccessible() == []
    assert not await view.scrolls_sideways(), view.page.url


async def test_a_campaign_is_drafted_and_seen(browser: Browser, settings: Settings, pictures: Path | None) -> None:
    async with Engine.open(settings) as engine:
        await fund(engine, "mall", 1_000_000)
        await engine.profiles.put("mall", AccountKind.MERCHANT, [], {}, changed_by="tests")
        made = await make(engine, (3_600_000, 60, 60_000, 300))
    async with serving_console(settings) as (origin, _), staff_of(settings) as staff:
        token = await staff.token("fay", FINANCE)
        for options, language in (({}, "zh"), ({**PHONE, "color_scheme": "dark"}, "en")):
            async with opened(browser, origin, **options) as view:
                await sign_in(view, origin, token)
                await view.page.goto(f"{origin}/campaigns?lang={language}")
                await looks_well(view)
                await view.page.goto(f"{origin}/campaigns/{made.campaign_id}")
                await looks_well(view)
                await take_picture(view, pictures, f"campaign_{language}")
                await view.page.goto(f"{origin}/campaigns/new?waves=2&prizes=2")
                await looks_well(view)
                await view.page.fill("[name=owner]", "mall")
                await view.page.fill("[name=name]", "春节红包雨")
                await view.page.fill("[name=w1p1_total]", "1,000.00")
                await view.page.fill("[name=w1p1_count]", "500")
                first = await view.page.input_value("[name=w1_starts]")
                await view.page.fill("[name=w2_starts]", first.replace("T20", "T21"))
                await view.page.fill("[name=w2p1_total]", "200.00")
                await view.page.fill("[name=w2p1_count]", "100")
                await view.page.click("form.wide button[type=submit]:not([name])")
                await view.page.wait_for_selector("form[action='/campaigns']")
                await looks_well(view)
                await take_picture(view, pictures, f"campaign_preview_{language}")


async def test_pictures_appear_by_themselves(browser: Browser, settings: Settings, pictures: Path | None) -> None:
    needs_chinese_font()
    async with Engine.open(settings) as engine, engine.pool.acquire() as connection:
        await lively(date(2026, 2, 17), 1, 20, users=50).write(connection)
    async with serving_console(settings) as (origin, _), staff_of(settings) as staff:
        token = await staff.token("oscar", OPERATOR)
        async with opened(browser, origin) as view:
            await sign_in(view, origin, token)
            await view.page.goto(f"{origin}/analysis?lang=zh")
            await looks_well(view)
            await view.page.fill("[name=from]", "2026-02-17")
            await view.page.fill("[name=to]", "2026-02-18")
            await view.page.click("form.action button[type=submit]")
            await view.page.wait_for_selector("progress")
            await view.page.wait_for_selector("article.study img", timeout=240_000)
            for image in await view.page.query_selector_all("article.study img"):
                await image.scroll_into_view_if_needed()
            await view.page.wait_for_function(
                "[...document.querySelectorAll('.study img')].every(image => image.complete && image.naturalWidth)"
            )
            await looks_well(view)
            await view.page.evaluate("scrollTo(0, 0)")
            await take_picture(view, pictures, "analysis_zh")
