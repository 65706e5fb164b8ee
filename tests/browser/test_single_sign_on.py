"""Single sign-on in a real Chromium. The provider is another site, so the browser decides which cookies go along."""

import pytest
from playwright.async_api import Browser

from api.console.gate import COOKIE
from engine.operators.roles import VIEWER
from engine.settings import Settings
from tests.support.console_served import served_console
from tests.support.openid_provider import openid_provider

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module"), pytest.mark.long]


@pytest.mark.parametrize("factor", ["otp", ""], ids=["the provider's factor", "our code"])
async def test_who_comes_back_from_another_site_is_signed_in_where_they_wanted_to_go(
    browser: Browser, settings: Settings, factor: str
) -> None:
    async with openid_provider("localhost") as provider:  # 127.0.0.1 is another site
        provider.person["amr"] = ["otp"]
        async with served_console(provider.settings(settings, second_factor=factor)) as served:
            _, secret = await served.console.staff.sign_up("ann", VIEWER)
            context = await browser.new_context(locale="en-GB")
            try:
                page = await context.new_page()
                await page.goto(f"{served.origin}/log?outcome=ok")
                await page.get_by_role("button", name="Sign in by single sign-on").click()
                if not factor:
                    await page.wait_for_url(f"{served.origin}/oidc/code")
                    await page.get_by_label("Code of the authenticator").fill(
                        await served.console.staff.code(secret, "ann")
                    )
                    await page.get_by_role("button", name="Sign in").click()
                await page.wait_for_url(f"{served.origin}/log?outcome=ok")
                assert "sign in by single sign-on" in await page.inner_text("main")
                (kept,) = [cookie for cookie in await context.cookies() if cookie["name"] == COOKIE]
                assert kept["sameSite"] == "Strict"
            finally:
                await context.close()
