"""Every page is there for who may see it, in each language, and says nothing that is not in the catalogue."""

from collections.abc import AsyncIterator

import pytest

from api.console.pages import PAGES
from api.console.visits import Page
from engine.operators.roles import ADMIN, FINANCE, VIEWER
from engine.settings import Settings
from tests.support.console import Console, open_console

PLAIN = [row.path for row in PAGES if row.method == "GET" and "{" not in row.path and not row.path.startswith("/oidc/")]
"""Single sign-on needs a provider: test_console_oidc.py has its pages."""


@pytest.fixture
async def console(settings: Settings) -> AsyncIterator[Console]:
    async with open_console(settings) as opened:
        yield opened


@pytest.mark.long
async def test_every_page_is_shown_in_each_language(console: Console) -> None:
    people = [await console.person(role) for role in (ADMIN, FINANCE, VIEWER)]
    for path in PLAIN:
        row = next(row for row in PAGES if row.path == path)
        person = next(one for one in people if not isinstance(row, Page) or console.may(one, row))
        for language, html in (("zh", 'lang="zh-CN"'), ("en", 'lang="en"')):
            answer = await person.get(f"{path}?lang={language}")
            assert answer.status_code == 200, (path, answer.text[-2000:])
            if answer.text.startswith("<!doctype"):
                assert html in answer.text, path
