"""In a language that marks each text, no page shows a word that is not in a catalogue."""

import gettext
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser

import pytest

from api.console import texts
from api.console.action_names import ACTION_NAMES
from api.console.pages import ACTIONS, PAGES
from api.console.visits import Page, PublicPage
from engine.operators.roles import ADMIN, FINANCE, ROLES
from engine.settings import Settings
from tests.support.console import Console, open_console

DATA = ("hongbao", "HONGBAO_", "CNY", "SHA-256", "CSV", "English", "中文", "tests", "127.0.0.1", *ROLES)
"""What is no text: names, values, and what tests have written."""
SHOWN_ATTRIBUTES = ("title", "placeholder", "aria-label", "alt")
NO_TEXT_IN = ("script", "style", "code", "time", "kbd")


class Marked(gettext.NullTranslations):
    """Each text in brackets that no page has."""

    def gettext(self, message: str) -> str:
        return f"⟦{message}⟧"

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return f"⟦{msgid1 if n == 1 else msgid2}⟧"


class Words(HTMLParser):
    """What a person reads on a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("input", "img", "meta", "link", "br", "path", "rect", "circle"):
            self._open.append("id" if ("class", "id") in attrs or ("lang", "en") in attrs else tag)
        self.found += [value for name, value in attrs if name in SHOWN_ATTRIBUTES and value]

    def handle_endtag(self, tag: str) -> None:
        if self._open:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not {*NO_TEXT_IN, "id"} & set(self._open):
            self.found.append(data)


def unmarked(html: str) -> list[str]:
    """Words outside the brackets that are no data."""
    wrong = []
    for shown in Words(html).found:
        rest = re.sub(r"⟦[^⟧]*⟧", "", shown)
        for data in DATA:
            rest = rest.replace(data, "")
        if re.search(r"[^\W\d_]{2}", rest):
            wrong.append(shown.strip())
    return wrong


def asked_of(pages: tuple[Page | PublicPage, ...]) -> list[str]:
    """The addresses of pages that need no number and are no files."""
    return [
        row.path
        for row in pages
        if row.method == "GET" and "{" not in row.path and not row.path.endswith((".csv", ".json"))
    ]


@pytest.fixture
async def console(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Console]:
    monkeypatch.setattr(texts.Texts, "of", lambda _self, _language, _page="base": Marked())
    monkeypatch.setattr(texts.Texts, "anywhere", lambda _self, _language, text: f"⟦{text}⟧")
    async with open_console(settings) as opened:
        yield opened


@pytest.mark.long
async def test_no_page_has_a_word_that_is_not_in_a_catalogue(console: Console) -> None:
    admin, finance = await console.person(ADMIN), await console.person(FINANCE)
    await finance.act("/deposits", user_id="tests", amount="1", reason="tests")
    await admin.act("/operators", name="tests", role="viewer", reason="tests")
    paths = [
        *asked_of(PAGES),
        "/nothing",
        "/deposits?user_id=tests&amount=1",
        "/approvals/1",
        "/approvals?all=1",
        "/operators/tests",
    ]
    paths += ["/log?operator=tests", "/search?q=tests&all=1", "/?notice=saved"]
    wrong = {}
    for path in paths:
        if path in ("/system", "/system/doctor"):  # the doctor speaks English, and a variable is no text
            continue
        for person in (admin, finance):
            answer = await person.get(path)
            if "html" in answer.headers.get("content-type", "") and (found := unmarked(answer.text)):
                wrong[path] = found
    assert wrong == {}


def test_a_word_that_is_not_in_a_catalogue_is_found() -> None:
    assert unmarked("<p>⟦Saved.⟧ <b>Really</b></p>") == ["Really"]
    assert unmarked('<input placeholder="Name"><code>x y</code><span class="id">abc</span>⟦A⟧') == ["Name"]


async def test_no_page_shows_a_text_that_its_catalogues_have_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete, build, anywhere = texts.Texts(), texts.Texts.__init__, texts.Texts.anywhere

    def with_marks(self: texts.Texts) -> None:
        build(self)
        self.of("zh").add_fallback(Marked())

    monkeypatch.setattr(texts.Texts, "__init__", with_marks)
    monkeypatch.setattr(texts.Texts, "anywhere", lambda _self, language, text: anywhere(complete, language, text))
    async with open_console(settings) as console:
        missed, failed = {}, []
        for role in (ADMIN, FINANCE):  # between them they see every page and nearly every form
            person = await console.person(role)
            for path in asked_of(PAGES):
                # A quantile's name (p99) is no text.
                if path.startswith("/system"):  # the doctor speaks English
                    continue
                answer = await person.get(path, **{"accept-language": "zh-CN"})
                if found := re.findall(r"⟦(?!p\d\d⟧)[^⟧]*⟧", answer.text):
                    missed[path] = found
                if answer.status_code >= 500:
                    failed.append(path)
        assert (missed, failed) == ({}, [])


def test_every_action_has_a_name_in_both_languages() -> None:
    names = {row.action for row in PAGES if isinstance(row, Page) and row.action} | {action.name for action in ACTIONS}
    shown = {name: ACTION_NAMES.get(name, name) for name in (*names, "link for the first operator")}
    assert [name for name, text in shown.items() if texts.Texts().anywhere("zh", text) == text] == []
    assert [text for text in shown.values() if "." in text or "_" in text] == []
    assert sorted(set(ACTION_NAMES) - names) == ["link for the first operator"]
