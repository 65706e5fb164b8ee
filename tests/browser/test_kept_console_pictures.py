"""Pages look as they did: pictures of them are compared with the kept ones (``tests/pictures``).

Whoever changes how a page looks renews them with ``--renew-pictures``, and looks at each before it is committed.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from engine.settings import Settings
from tests.browser.test_money_pages_in_a_browser import busy
from tests.support import kept_pictures
from tests.support.chromium import opened
from tests.support.console_served import ServedConsole, served_console
from tests.support.kept_pictures import Pictures

pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
CONSOLE = {
    "sign-in": ("/login", "zh", "light", WIDE),
    "overview": ("/", "zh", "light", WIDE),
    "packets": ("/packets", "zh", "light", WIDE),
    "packet": ("/packets/", "en", "dark", NARROW),
    "user": ("/users/bob", "zh", "light", WIDE),
    "quarantined": ("/quarantine/1", "en", "light", WIDE),
    "reconciliation": ("/reconciliation/", "zh", "dark", WIDE),
    "disputes": ("/disputes", "zh", "light", NARROW),
}
"""Path, language, colours, window. A path that ends in ``/`` is that of the one there is."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def console(shared_settings: Settings) -> AsyncIterator[tuple[ServedConsole, list[str]]]:
    async with busy(shared_settings) as paths, served_console(shared_settings) as served:
        yield served, paths


@pytest.mark.parametrize("name", CONSOLE)
async def test_a_page_of_the_console(
    browser: Browser,
    console: tuple[ServedConsole, list[str]],
    name: str,
    kept: Pictures,
) -> None:
    (served, paths), (path, language, scheme, window) = console, CONSOLE[name]
    if path.endswith("/") and path != "/":
        path = next(one for one in paths if one.startswith(path))
    options = {"viewport": window, "color_scheme": scheme, "reduced_motion": "reduce", "device_scale_factor": 1}
    whole = opened(browser, served.origin, **options)
    async with whole if path == "/login" else served.signed_in(browser, "finance", **options) as shown:
        answer = await shown.page.goto(f"{served.origin}{path}?lang={language}")
        assert answer is not None
        assert answer.status == 200
        await shown.page.evaluate(
            "document.querySelectorAll('header a[href=\"/me\"]').forEach(one => one.textContent = 'ann')"
        )
        await kept.compare(shown.page, f"console-{name}")


async def test_these_are_kept_and_no_others() -> None:
    assert kept_pictures.names("console-") == set(CONSOLE)
    assert [
        path.name for path in kept_pictures.FOLDER.iterdir() if path.stat().st_size >= kept_pictures.BYTES_MAX
    ] == []
