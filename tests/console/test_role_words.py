"""What the operators' page says about each role is what its rights allow, in both languages."""

import re

import pytest

from api.console.role_words import _FILES, DUTIES, lines
from api.console.texts import Texts
from engine.operators.roles import ADMIN, PERMISSIONS, ROLES, VIEWER
from engine.settings import Settings
from tests.support.console import open_console, words_of
from tests.support.console_access import YES, read

TEXTS = Texts()
SAID = frozenset().union(*(rights for rights, _ in DUTIES)) | _FILES


def test_every_right_beside_looking_is_said() -> None:
    assert {right for right in PERMISSIONS - SAID if not right.endswith(":read")} == set()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_all_of_what_one_phrase_says_or_nothing(role: str) -> None:
    for rights, text in DUTIES:
        assert rights & ROLES[role] in (frozenset(), rights), (role, text)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_line_is_true_to_the_table_of_pages(language: str) -> None:
    """What the table lets a role do beside looking is in its line, and nothing else is."""
    table, gettext = read(), TEXTS.of(language).gettext
    pages = {
        "POST /deposits": "deposit money",
        "POST /disputes/{dispute_id}/decide": "decide and assign disputes",
        "POST /users/{user_id}/freeze": "freeze accounts and lift freezes",
        "POST /alerts/acknowledge": "acknowledge and assign alerts",
        "POST /audit/run": "run audits",
        "POST /operators": "add, change and disable operators",
        "POST /campaigns": "make, pay and change campaigns",
        "POST /lanes/{lane}/force": "rebuild lanes",
        "POST /packets/{packet_id}/notes": "write notes",
        "GET /log.csv": "download the operator log",
    }
    told = dict(lines(gettext))
    for page, text in pages.items():
        method, path = page.split(" ")
        for role in ROLES:
            assert (gettext(text) in told[role]) == (table[method, path][role] == YES), (role, page)
    assert gettext("only looks: changes nothing and downloads nothing") == told[VIEWER]
    if language == "zh":
        assert not re.search("[A-Za-z]", "".join(told.values()))


async def test_the_page_explains_each_role(settings: Settings) -> None:
    async with open_console(settings) as console:
        admin = await console.person(ADMIN, "ann")
        await console.person(VIEWER, "bob")
        for path in ("/operators", "/operators/bob"):
            for language in ("zh", "en"):
                page = words_of((await admin.get(f"{path}?lang={language}")).text)
                for _, line in lines(TEXTS.of(language).gettext):
                    assert line in page.replace("&#39;", "'"), (path, language)
