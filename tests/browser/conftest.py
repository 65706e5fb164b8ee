"""One Chromium a module. A test module here runs in its module's loop, as its browser does."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.support.chromium import launched
from tests.support.kept_pictures import Pictures


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """A browser without windows. What is opened in it is the test's (``tests.support.chromium.opened``)."""
    async with launched() as started:
        yield started


@pytest.fixture
def pictures(request: pytest.FixtureRequest) -> Path | None:
    """Where to keep pictures of pages; None: none are wanted."""
    folder = request.config.getoption("--take-pictures")
    return None if folder is None else Path(folder)


@pytest.fixture
def kept(request: pytest.FixtureRequest, browser: Browser, tmp_path: Path) -> Pictures:
    """The kept pictures, to be compared or taken anew. Where they cannot be compared, the test is skipped."""
    return Pictures.of(browser, tmp_path, renews=bool(request.config.getoption("--renew-pictures")))
