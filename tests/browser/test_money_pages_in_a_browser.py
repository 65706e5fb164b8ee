"""The console's pages about money in a real Chromium, with something on each: clean, readable, and wide enough."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Literal

import asyncpg
import pytest
from playwright.async_api import Browser, Page, ViewportSize

from engine.auditing.runs import Runs
from engine.backoffice.notes import SubjectKind, add_in
from engine.calendar.china_time import today
from engine.engine import Engine
from engine.records import SplitKind
from engine.settings import Settings
from tests.auditing.test_runs import compared
from tests.support.books import Books, claim, expired, opening
from tests.support.chromium import opened
from tests.support.console import PASSWORD, serving_console, staff_of
from tests.support.dispute_scene import Scene, claimed_packet, with_small_disputes
from tests.support.scenes import changed, persisting, send, settled

pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]
SECRETS: dict[str, str] = {}
"""Each operator's authenticator."""
PHONE, DESK = ViewportSize(width=390, height=844), ViewportSize(width=1280, height=900)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@asynccontextmanager
async def busy(settings: Settings) -> AsyncIterator[list[str]]:
    """An installation with something on each page. The pages' paths."""
    wanted = changed(with_small_disputes(settings), alert_large_fen=1)
    async with Engine.open(wanted) as engine:
        async with persisting(wanted):
            number, at_ms = await claimed_packet(engine, "bob", "carol")
            await send(engine, "erin", total_fen=50, count=5, split=SplitKind.EQUAL, label="spring")
            await settled(engine, number)
            dispute = await Scene(engine, number, at_ms).file(evidence=("他没有付款", "he lied"))
            for place in range(60):
                await send(engine, f"user{place:02}", total_fen=100 + place, count=2, label="spring")
        await engine.freezes.freeze("carol", reason="a packet of 9 fen", frozen_by="rule:large_movement")
        runs = Runs(engine.pool)
        for days, differs in ((1, True), (2, False)):
            day = today() - timedelta(days=days)
            found = [compared(differs=differs), compared("claims: Redis")]
            await runs.keep_reconciliation(day, found, started_at_ms=1, by="daily", is_provisional=False)
        async with engine.pool.acquire() as connection:
            await add_in(connection, SubjectKind.USER, "bob", "来电两次\nHe called twice.", by="ann")
        await _quarantine(wanted)
        yield [
            *("/", "/packets", "/packets?state=open&label=spring", f"/packets/{number}", "/users", "/users/bob"),
            *("/users/alice?show=sent", "/disputes", f"/disputes/{dispute.dispute_id}", "/freezes", "/freezes/1"),
            *("/quarantine", "/quarantine/1", "/quarantine/retry", "/reconciliation", "/refunds", "/withdrawals"),
            *(f"/reconciliation/{today() - timedelta(days=1)}", "/alerts", "/audit", "/lanes?lane=1", "/labels"),
        ]


async def sign_in(page: Page, origin: str, settings: Settings, name: str) -> None:
    """Sign in as a person does."""
    async with staff_of(settings) as staff:
        code = await staff.code(SECRETS[name], name)
    await page.goto(f"{origin}/login")
    await page.fill('input[name="name"]', name)
    await page.fill('input[name="password"]', PASSWORD)
    await page.fill('input[name="code"]', code)
    await page.click('button[type="submit"]')
    await page.wait_for_url(f"{origin}/")


async def _quarantine(settings: Settings) -> None:
    """Three changes that came before their packet, in a lane that nobody follows any more."""
    connection = await asyncpg.connect(settings.database_url)
    books = Books(connection=connection)
    books.position = await connection.fetchval("SELECT position FROM lanes WHERE lane = 0")
    number = await books.packet(total_fen=100, count=3)
    await connection.execute("DELETE FROM packets WHERE packet_id = $1", number)
    await books.apply(opening(number), claim(number, "bob", 0, 60), expired(number, 2, 40))
    await connection.close()


async def test_every_page_is_clean_in_both_languages_light_and_dark_wide_and_narrow(
    browser: Browser, shared_settings: Settings, pictures: Path | None
) -> None:
    async with busy(shared_settings) as paths, serving_console(shared_settings) as (origin, _):
        async with staff_of(shared_settings) as staff:
            SECRETS["fin"] = (await staff.sign_up("fin", "finance"))[1]
        async with opened(browser, origin, reduced_motion="reduce") as shown:
            await sign_in(shown.page, origin, shared_settings, "fin")
            for language, size in (("zh", DESK), ("en", PHONE)):
                await shown.page.set_viewport_size(size)
                for path in paths:
                    separator = "&" if "?" in path else "?"
                    answer = await shown.page.goto(f"{origin}{path}{separator}lang={language}")
                    assert answer is not None
                    assert answer.status == 200, (path, answer.status)
                    for scheme in SCHEMES:  # no script of these pages asks for it: their style follows
                        await shown.page.emulate_media(color_scheme=scheme)
                        assert not await shown.scrolls_sideways(), (path, size)
                        if pictures is not None:
                            name = "overview" if path == "/" else path
                            await take_page(shown.page, pictures, f"{name}_{language}_{scheme}_{size['width']}")
                        assert await shown.inaccessible() == [], (path, language, scheme)
                    assert await shown.violations() == [], path


async def take_page(page: Page, folder: Path, name: str) -> None:
    """Keep a picture of the whole page."""
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240  # a test
    file = folder / f"{name.strip('/').replace('/', '_').replace('?', '_').replace('&', '_')}.png"
    await page.screenshot(path=file, full_page=True)


async def test_back_shows_the_filtered_rows_again(browser: Browser, shared_settings: Settings) -> None:
    async with Engine.open(shared_settings) as engine:
        for _ in range(2):
            await send(engine, "yan", total_fen=7, count=1)
    async with serving_console(shared_settings) as (origin, _), staff_of(shared_settings) as staff:
        SECRETS["vivian"] = (await staff.sign_up("vivian", "viewer"))[1]
        async with opened(browser, origin) as shown:
            page = shown.page
            await sign_in(page, origin, shared_settings, "vivian")
            await page.goto(f"{origin}/packets?lang=en")
            await page.fill('.filters input[name="sender"]', "yan")
            await page.click(".filters button")
            await page.wait_for_url("**sender=yan**")
            links = page.locator("tbody td:first-child a.id")
            assert await links.count() == 2
            number = await links.first.inner_text()
            assert len(number) == 19
            await links.first.click()
            await page.wait_for_url(f"**/packets/{number}")
            assert number in await page.inner_text("h1")
            await page.go_back()
            await page.wait_for_url("**sender=yan**")
            assert await links.count() == 2
            assert await page.locator('.filters input[name="sender"]').input_value() == "yan"
            await page.click(".chips a >> nth=0")
            assert "sender" not in page.url
