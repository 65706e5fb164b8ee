"""A receipt as a browser shows it."""

import pytest
from playwright.async_api import Browser

from engine.settings import Settings
from tests.support.chromium import opened
from tests.support.front import serving
from tests.support.scenes import persisting
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


@pytest.mark.long
async def test_a_receipt_breaks_no_policy_and_everybody_can_read_it(
    browser: Browser, shared_settings: Settings
) -> None:
    async with serving(shared_settings) as (client, _), persisting(shared_settings):
        packet_id = await client.send("alice", greeting="恭喜发财<b>")
        await client.claim(packet_id, "bob")
        origin = str(client.http.base_url).rstrip("/")
        headers = client.as_user("bob") | {"accept": "text/html"}
        path = f"/v1/transactions/{packet_id}/receipt"

        async def is_booked() -> bool:
            return (await client.http.get(path, headers=headers)).status_code == 200

        await wait_until(is_booked, timeout_s=20, what="the receipt")
        async with opened(browser, origin, extra_http_headers=headers) as shown:
            await shown.page.goto(f"{origin}{path}")
            assert "恭喜发财<b>" in await shown.page.inner_text("body")
            assert await shown.inaccessible() == []


@pytest.mark.long
async def test_the_watch_sees_what_it_is_for(browser: Browser, shared_settings: Settings) -> None:
    async with serving(shared_settings) as (client, _):
        with pytest.raises(AssertionError, match=r"console error.*Content Security Policy") as caught:
            await misbehave(browser, str(client.http.base_url).rstrip("/"))
        said = str(caught.value)
        assert "dialog: hands up" in said
        assert "script-src" in said


async def misbehave(browser: Browser, origin: str) -> None:
    """Do what no page may."""
    async with opened(browser, origin) as shown:
        await shown.page.goto(f"{origin}/livez")
        await shown.page.evaluate(
            "() => { const script = document.createElement('script'); script.textContent = 'window.evil = 1';"
            " document.documentElement.append(script); alert('hands up'); }"
        )
        assert await shown.page.evaluate("window.evil") is None
        assert "document-title: [['html']]" in await shown.inaccessible()
        await shown.page.evaluate("() => fetch('http://127.0.0.1:1/').catch(() => null)")
