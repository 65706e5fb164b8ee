"""The console's frame: its pages, files, headers and languages."""

from collections.abc import AsyncIterator

import pytest

from engine.operators.roles import VIEWER
from engine.settings import Settings
from tests.support.console import Console, open_console


@pytest.fixture
async def console(settings: Settings) -> AsyncIterator[Console]:
    async with open_console(settings) as opened:
        yield opened


async def test_the_first_page_is_there_in_both_languages(console: Console) -> None:
    person = await console.person(VIEWER)
    english = await person.get("/?lang=en")
    assert english.status_code == 200
    assert '<html lang="en">' in english.text
    chinese = await person.get("/?lang=zh")
    assert '<html lang="zh-CN">' in chinese.text
    assert '<html lang="zh-CN">' in (await person.get("/")).text  # it was kept
