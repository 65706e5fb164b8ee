"""The table in docs/console-access.md, tried cell by cell."""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from api.console.pages import PAGES
from api.console.visits import Page
from engine.operators.roles import PERMISSIONS, ROLES
from engine.settings import Settings
from tests.support.console import SAME_ORIGIN, Console, open_console
from tests.support.console_access import NO, YES, read

in_module = pytest.mark.asyncio(loop_scope="module")
TABLE = read()
ENDING = ("/logout", "/me/sessions/{session_id}/end")
"""After these there may be no session."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def console(shared_settings: Settings) -> AsyncIterator[Console]:
    async with open_console(shared_settings) as opened:
        yield opened


def test_the_table_has_every_route_and_no_other() -> None:
    assert sorted(TABLE) == sorted((row.method, row.path) for row in PAGES)
    assert {cell for row in TABLE.values() for cell in row.values()} == {YES, NO}


def test_every_right_of_a_page_is_some_roles() -> None:
    needed = {row.permission for row in PAGES if isinstance(row, Page)} - {""}
    assert needed <= PERMISSIONS


def test_the_admin_moves_no_money() -> None:
    moving = {row.permission for row in PAGES if isinstance(row, Page) and row.needs_proof} - {"operators:write"}
    assert not moving & ROLES["admin"]
    assert not {name for name in ROLES["viewer"] if not name.endswith(":read")}


@pytest.mark.long
@in_module
@pytest.mark.parametrize("role", list(ROLES))
async def test_each_route_answers_each_role_as_the_table_says(console: Console, role: str) -> None:
    wrong, person, before = [], None, ""
    for (method, path), cells in TABLE.items():
        if person is None or before in ENDING:
            person = await console.person(role)
        before = path
        target = re.sub(r"\{[^}]+\}", "1", path)
        answer = await (person.get(target) if method == "GET" else person.post(target))
        is_refused = answer.status_code == 403 and "Your role does not allow this" in answer.text
        if is_refused != (cells[role] == NO) or answer.status_code >= 500:
            wrong.append((method, path, role, answer.status_code))
    assert not wrong


@in_module
async def test_without_a_session_every_page_leads_to_the_sign_in(console: Console) -> None:
    async with console.browser() as http:
        for (method, path), cells in TABLE.items():
            target = re.sub(r"\{[^}]+\}", "1", path)
            answer = await http.request(method, target, headers=SAME_ORIGIN)
            leads = answer.status_code == 303 and answer.headers["location"].partition("?")[0] == "/login"
            assert leads == (cells["anyone"] == NO), (method, path, answer.status_code)
            part = await http.request(method, target, headers={**SAME_ORIGIN, "hx-request": "true"})
            assert (part.status_code == 401) == (cells["anyone"] == NO), (method, path, part.status_code)


@in_module
async def test_what_may_not_be_done_has_no_link_in_the_menu(console: Console) -> None:
    person = await console.person("viewer")
    links = set(re.findall(r'<li><a href="([^"]+)"', (await person.get("/")).text))
    assert "/approvals" in links
    assert {path for path in links if TABLE["GET", path]["viewer"] == NO} == set()
    assert "/operators" not in links
