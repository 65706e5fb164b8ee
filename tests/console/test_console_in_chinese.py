"""Whoever reads Chinese reads no English sentence: every page that is linked, with something on it, in Chinese."""

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser

import asyncpg
import pytest
import pytest_asyncio

from api.console import book_sentences
from api.console.pages import PAGES
from api.console.texts import Texts
from engine.auditing import audit as audit_module
from engine.auditing.heavy import run_audit, run_reconciliation
from engine.auditing.runs import Runs
from engine.calendar.china_time import today
from engine.operators.log import COMMAND_LINE, OK
from engine.records import SplitKind
from engine.settings import Settings
from tests.auditing.test_runs import compared
from tests.support.books import Books, claim, expired, opening
from tests.support.console import Console, open_console
from tests.support.dispute_scene import Scene, claimed_packet, with_small_disputes
from tests.support.repository import ROOT
from tests.support.scenes import caught_up, changed, persisting, send, settled

in_module = pytest.mark.asyncio(loop_scope="module")
CHINESE = Texts().of("zh").gettext
ENGLISH = Texts().of("en").gettext
NAMES = re.compile(
    "|".join(
        (
            *("WeChat Pay", "Redis", "Postgres", "hongbao [a-z-]+(?: --?[a-z-]+)*", "SHA-256", "CSV", "JSON", "PNG"),
            *("OpenID", "English", "docs/[a-z/-]+", r"HONGBAO_[A-Z_]+", "Lua", "HTTP", "API", r"[a-z]+\.[a-z_.]+"),
        )
    )
)
"""What is written so in Chinese, too."""
SENTENCE = re.compile(r"[A-Za-z][a-z']+(?:[ ,:]+[A-Za-z][a-z']*){1,}")
"""Two English words or more in a row."""
NO_TEXT_IN = ("script", "style", "code", "time", "kbd", "title")
VOID = ("input", "img", "meta", "link", "br", "path", "rect", "circle", "hr")


class Shown(HTMLParser):
    """What a page says itself: not ids, code, or what is marked as English."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.links: list[str] = []
        self._open: list[bool] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a" and (given.get("href") or "").startswith("/"):
            self.links.append(given["href"] or "")
        if tag not in VOID:
            is_none = tag in NO_TEXT_IN or given.get("class") == "id" or given.get("lang") == "en"
            self._open.append(is_none)
        for name in ("title", "placeholder", "aria-label", "alt"):
            if given.get(name) and not any(self._open):
                self.found.append(given[name] or "")

    def handle_endtag(self, tag: str) -> None:
        if self._open and tag not in VOID:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not any(self._open):
            self.found.append(data)


def english(html: str) -> list[str]:
    """The English sentences that a page shows."""
    texts = [NAMES.sub("·", " ".join(text.split())) for text in Shown(html).found]
    return sorted({text for text in texts if SENTENCE.search(text)})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def console(shared_settings: Settings) -> AsyncIterator[Console]:
    """An installation with something on each page, whose people write Chinese."""
    wanted = changed(with_small_disputes(shared_settings), alert_large_fen=1)
    async with open_console(wanted) as opened:
        engine = opened.desk.engine
        async with persisting(wanted):
            number, at_ms = await claimed_packet(engine, "bob", "carol")
            await send(engine, "erin", total_fen=50, count=5, split=SplitKind.EQUAL, label="spring")
            await settled(engine, number)
            await Scene(engine, number, at_ms).file(evidence=("他没有付款",))
            await caught_up(engine)
            await run_reconciliation(wanted, today(), by=COMMAND_LINE.name, provisional=True)
            await run_audit(wanted, by=COMMAND_LINE.name)
        found = [compared("claims: events"), compared("claims: Redis", differs=True)]
        await Runs(engine.pool).keep_reconciliation(today(), found, started_at_ms=1, by="daily", is_provisional=False)
        await _quarantine(wanted)
        await opened.desk.log.write(COMMAND_LINE, "approve", OK)
        await opened.desk.operators.add("dora", "risk", by=COMMAND_LINE.name)
        finance = await opened.person("finance", "ann")
        await finance.act("/deposits", user_id="alice", amount="12.34", reason="测试")
        yield opened


async def _quarantine(settings: Settings) -> None:
    """Three changes that came before their packet, in a lane that nobody follows any more."""
    connection = await asyncpg.connect(settings.database_url)
    books = Books(connection=connection)
    books.position = await connection.fetchval("SELECT position FROM lanes WHERE lane = 0")
    number = await books.packet(total_fen=100, count=3)
    await connection.execute("DELETE FROM packets WHERE packet_id = $1", number)
    await books.apply(opening(number), claim(number, "bob", 0, 60), expired(number, 2, 40))
    await connection.close()


def route_of(path: str) -> str:
    for row in PAGES:
        if row.method == "GET" and re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", row.path), path):
            return row.path
    return path


@pytest.mark.long
@in_module
@pytest.mark.parametrize("role", ["finance", "admin", "risk", "operator"])
async def test_no_page_shows_an_english_sentence(console: Console, role: str) -> None:
    person, seen, wrong = await console.person(role), dict[str, int](), dict[str, list[str]]()
    waiting = [
        "/",
        "/me",
        "/search",
        "/search?q=zz",
        "/deposits?user_id=alice&amount=1",
        "/approvals?all=1",
        "/nothing",
    ]
    while waiting:
        target = waiting.pop(0)
        route = route_of(target.partition("?")[0])
        if seen.get(route, 0) >= 4 or "lang=" in target or target.endswith((".csv", ".json")) or ".csv?" in target:
            continue
        seen[route] = seen.get(route, 0) + 1
        answer = await person.get(target, **{"accept-language": "zh-CN"})
        if "html" not in answer.headers.get("content-type", ""):
            continue
        assert 'lang="zh-CN"' in answer.text or "hx-" in answer.text, target
        if found := english(answer.text):
            wrong[target] = found
        waiting += Shown(answer.text).links
    assert {
        "/audit/{audit_run_id}",
        "/reconciliation/{day}",
        "/disputes/{dispute_id}",
        "/approvals/{approval_id}",
    } <= set(seen)
    assert wrong == {}


def test_an_english_sentence_is_found() -> None:
    assert english("<p>全部 all balances sum to zero</p>") == ["全部 all balances sum to zero"]
    assert english('<p lang="en">all balances sum</p><code>all balances</code><b>Redis 与 Postgres</b>') == []


@pytest.mark.parametrize("known", [*book_sentences.STATEMENTS, *book_sentences.ACTORS])
def test_each_is_translated_and_still_said(known: str) -> None:
    translated = CHINESE(known)
    assert re.search("[一-鿿]|^{}[：，]", translated), known
    assert translated.count("{}") == known.count("{}")
    tell = book_sentences.stater if known in book_sentences.STATEMENTS else book_sentences.namer
    assert tell(ENGLISH)(known.replace("{}", "7")) == known.replace("{}", "7")
    assert tell(CHINESE)(known.replace("{}", "7")) == translated.replace("{}", "7")
    beginning = max(re.split(r"\{\}|: ", known), key=len)
    assert beginning.rstrip(".") in _said(), f"nobody says {known!r} any more: remove it, or bring it up to date"


def _said() -> str:
    if not SAID:
        files = [*(ROOT / "engine").rglob("*.py"), *(ROOT / "engine").rglob("*.sql"), *(ROOT / "api").rglob("*.py")]
        SAID.append("".join(path.read_text(encoding="utf-8") for path in files if path.name != "book_sentences.py"))
    return SAID[0]


SAID: list[str] = []


def test_every_invariant_is_known() -> None:
    named = [*audit_module._LEDGER_CHECKS, audit_module._STREAM, audit_module._REDIS]
    assert [row[1] for row in named if row[1] not in book_sentences.STATEMENTS] == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("deposit: ledger", "充值：账本"),
        ("claim: ledger, coupon:7", "领取：账本，coupon:7"),
        ("claim out: statements", "领取（出）：流水"),
        ("out of a card_pool", "出自卡片奖池"),
        ("refunds by the lanes' batches", "退款（按通道批次）"),
        ("withdrawal 7 of 100 fen (w7): it is settled, and no payout was ordered", None),
        ("What came after the audit of 2026-11-30 10:00 (China) is examined, from entry 8 on.", None),
        ("rule:large_movement", "rule:large_movement"),
    ],
)
def test_the_parts_of_a_statement_are_told_as_well(said: str, told: str | None) -> None:
    found = book_sentences.stater(CHINESE)(said)
    assert found == told or (told is None and not SENTENCE.search(found)), found
