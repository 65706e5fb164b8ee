"""The page and the files: what they hold, and what is said where they cannot be made."""

import asyncio
import hashlib
import io
import re
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import asyncpg
import orjson
import pytest
from PIL import Image
from structlog.testing import capture_logs

from engine.analysis import charts, pictures, report
from engine.analysis.finding import Finding, Language, Said, found
from engine.analysis.studies import STUDIES, Study, study
from engine.campaigns.terms import NAME_LENGTH_MAX
from engine.ledger.database import database_pool
from engine.text import is_readable
from tests.support.analysis_scene import Scene, lively
from tests.support.chinese_font import needs_chinese_font
from tests.support.commands import hongbao, hongbao_code

pytestmark = pytest.mark.long

DAY = date(2026, 2, 17)
LIVE = ("=1+1", "@x", " =1+1", "\uff1d1+1", "\uff20x")
_BROKEN = (
    "from engine.analysis.charts import CHARTS\n"
    "def broken(*_): raise ValueError('a bug')\n"
    "CHARTS['shares'] = broken\n"
    "from engine.cli.main import main; main()"
)
_WITHOUT = "import sys; sys.modules['matplotlib'] = None; from engine.cli.main import main; main()"
_WITHOUT_FONT = (
    "from matplotlib import font_manager as fonts\n"
    "fonts.fontManager.ttflist = [entry for entry in fonts.fontManager.ttflist if entry.name.startswith('DejaVu')]\n"
    "fonts.findSystemFonts = lambda *_: []\n"
    "from engine.cli.main import main; main()"
)


@pytest.fixture
async def scene_url(database_url: str) -> str:
    """A ledger with a lively day."""
    connection = await asyncpg.connect(database_url)
    await lively(DAY, 1, 25, users=60).write(connection)
    await connection.close()
    return database_url


@pytest.fixture
async def seen(scene_url: str) -> AsyncIterator[Study]:
    pool = await database_pool(scene_url, connections_max=1, timeout_s=60.0)
    yield await study(pool, DAY, DAY)
    await pool.close()


NAMES = {
    "a formula that is none": "$^$",
    "a command": "$\\foo$ rain",
    "dollars": "Win $5 or $_ each",
    "from right to left": "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "letters that join": "\u0928\u092e\u0938\u094d\u0924\u0947",
    "emoji": "\U0001f9e7\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "marks on marks": "a" + "\u0301" * (NAME_LENGTH_MAX - 1),
    "wide": "\ufdfd" * NAME_LENGTH_MAX,
    "no characters": "\ufffe\ue000\U0010ffff",
    "formats": "%s {} %(x)s _a",
}


def of_campaigns(name: str) -> Finding:
    columns = (
        *("campaign_id", "name", "odds", "shares", "won", "winners", "returned", "left"),
        *("amount", "won_amount", "returned_amount", "open_parts"),
    )
    said = Said(title="x", sentences=())
    rows = [("1", name, 1.0, 10, 5, 5, 5, 0, 1.0, 0.5, 0.5, 0)]
    return found("campaigns", columns, rows, zh=said, en=said, units={"asset": "CNY"})


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Page(HTMLParser):
    """What a browser would load, follow or run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.given: list[tuple[str, str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.given += [(tag, name, value or "") for name, value in attrs]


@pytest.mark.long
@pytest.mark.parametrize("language", Language)
async def test_the_page_has_everything_in_it_and_may_load_nothing(
    seen: Study, tmp_path: Path, language: Language
) -> None:
    if language is Language.ZH:
        needs_chinese_font()
    report.write(tmp_path, seen, language)
    html = await asyncio.to_thread((tmp_path / report.PAGE).read_text, "utf-8")
    page = Page(html)
    assert {"script", "link", "iframe", "object", "form"}.isdisjoint(page.tags)
    assert [name for _, name, _ in page.given if name.startswith("on") or name == "style"] == []
    sources = [value for _, name, value in page.given if name == "src"]
    drawn = [finding for finding in seen.findings if not finding.is_empty]
    assert [b64decode(source.removeprefix("data:image/png;base64,")) for source in sources] == [
        (tmp_path / f"{finding.name}.png").read_bytes() for finding in drawn
    ]
    for name in [name for name in names_in(tmp_path) if name.endswith(".png")]:
        png = await asyncio.to_thread((tmp_path / name).read_bytes)
        assert len(png) < 200_000
        with Image.open(io.BytesIO(png)) as picture:
            assert picture.size == (960, 540)
    links = [value for tag, name, value in page.given if (tag, name) == ("a", "href")]
    assert sorted(links) == sorted(f"{finding.name}.{kind}" for finding in drawn for kind in ("csv", "png"))
    assert all((tmp_path / link).is_file() for link in links)
    (policy,) = [value for tag, name, value in page.given if tag == "meta" and value.startswith("default-src")]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert b64encode(hashlib.sha256(style.encode()).digest()).decode() in policy
    assert f'lang="{"zh-CN" if language is Language.ZH else "en"}"' in html
    for finding in seen.findings:
        assert finding.said[language].title.replace("'", "&#39;").replace(">", "&gt;").replace("<", "&lt;") in html


async def test_what_an_earlier_run_drew_is_not_taken_for_these_days(
    seen: Study, tmp_path: Path, database_url: str
) -> None:
    report.write(tmp_path, Study(seen.scope, seen.findings[:2]), Language.EN)
    assert "storm.png" in names_in(tmp_path)
    await asyncio.to_thread((tmp_path / "mine.txt").write_text, "stays", "utf-8")
    pool = await database_pool(database_url, connections_max=1, timeout_s=60.0)
    empty = await study(pool, date(2020, 1, 1), date(2020, 1, 1), names=["storm", "sold_out"])
    await pool.close()
    report.write(tmp_path, empty, Language.EN)
    assert names_in(tmp_path) == ["index.html", "mine.txt"]


def test_a_name_is_text_on_the_page_and_no_formula_in_the_table() -> None:
    said = {language: Said(title="<b>&", sentences=("<script>alert(1)</script>",)) for language in Language}
    finding = Finding(
        name="campaigns",
        columns=("name", "n"),
        rows=(*((name, 1) for name in LIVE), ("plain", -2)),
        said=said,
        units={},
    )
    text = report.csv_of(finding).decode("utf-8-sig")
    assert text.splitlines() == ["name,n", *(f"'{name},1" for name in LIVE), "plain,-2"]
    from engine.analysis.scope import Scope

    scope = Scope(first=DAY, last=DAY, asset=None, currency="CNY", scale=2)
    html = report.page_of(scope, [report.Drawn(finding, None)], Language.EN)
    assert "<script>" not in html
    assert "&lt;b&gt;&amp;" in html


def test_long_titles_stay_on_the_picture() -> None:
    assert max(map(len, charts.wrapped("finding " * 22, Language.EN).splitlines())) <= 68
    assert charts.wrapped("红包" * 40, Language.ZH).splitlines() == ["红包" * 19, "红包" * 19, "红包" * 2]


def test_every_question_can_be_drawn() -> None:
    assert list(charts.CHARTS) == list(STUDIES)


def test_a_study_in_which_one_number_is_missing_is_nan() -> None:
    words = Said(title="", sentences=())
    finding = found("x", ("a",), [(None,), (1,)], zh=words, en=words)
    assert [number != number for number in finding.numbers("a")] == [True, False]  # noqa: PLR0124  # NaN differs


@pytest.mark.long
def test_the_command_says_what_it_drew(scene_url: str, tmp_path: Path) -> None:
    words = (
        "analyse",
        "--from",
        "2026-02-17",
        "--out",
        tmp_path / "deep" / "er",
        "--only",
        "storm",
        "--only",
        "shares",
    )
    done = hongbao(*words, HONGBAO_DATABASE_URL=scene_url)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("storm: The storm gave ")
    assert lines[-1] == f"The page is {(tmp_path / 'deep' / 'er' / 'index.html').resolve()}"
    made = {path.name for path in (tmp_path / "deep" / "er").iterdir()}
    assert made == {"index.html", "storm.png", "storm.csv", "shares.png", "shares.csv"}
    as_json = hongbao(*words, "--to", "2026-02-18", "--json", HONGBAO_DATABASE_URL=scene_url)
    answer = orjson.loads(as_json.stdout)
    assert [finding["name"] for finding in answer["findings"]] == ["storm", "shares"]


def test_the_command_speaks_chinese(scene_url: str, tmp_path: Path) -> None:
    needs_chinese_font()
    words = ("analyse", "--from", "2026-02-17", "--out", tmp_path, "--only", "unclaimed", "--language", "zh")
    done = hongbao(*words, HONGBAO_DATABASE_URL=scene_url)
    assert done.returncode == 0, done.stderr
    assert "的金额无人领取，退回给发送者" in done.stdout


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--from", "2026-2-17"), "--from must be a valid date (YYYY-MM-DD)."),
        (("--from", "2026-02-30"), "--from must be a valid date (YYYY-MM-DD)."),
        (("--from", "2026-02-17", "--to", "soon"), "--to must be a valid date (YYYY-MM-DD)."),
        (("--from", "2026-02-17", "--to", "2026-02-16"), "--to must not be before the first day."),
        (("--from", "2024-01-01", "--to", "2026-02-16"), "--to must leave at most 400 days; these are 778."),
        (("--from", "2999-01-01"), "--from must be a day that has begun in China."),
        (("--from", "2026-02-17", "--only", "moon"), "There is no picture moon. There are storm, sold_out, shares, "),
        (("--from", "2026-02-17", "--asset", "GOLD"), "The ledger has no asset GOLD; its currency is CNY."),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    database_url: str, tmp_path: Path, words: tuple[str, ...], why: str
) -> None:
    done = hongbao("analyse", *words, "--out", tmp_path, HONGBAO_DATABASE_URL=database_url)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"hongbao: {why}")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_none_is_refused(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine", encoding="utf-8")
    for out in (file, file / "below"):
        done = hongbao("analyse", "--from", "2026-02-17", "--out", out, HONGBAO_DATABASE_URL=database_url)
        assert done.returncode == 2
        assert re.fullmatch(r"hongbao: The pictures cannot be written to .*: .*\.\n", done.stderr)
    assert file.read_text(encoding="utf-8") == "mine"


@pytest.mark.long
def test_without_matplotlib_or_a_font_it_says_what_to_install(database_url: str, tmp_path: Path) -> None:
    words = ("analyse", "--from", "2026-02-17", "--out", tmp_path, "--only", "storm")
    done = hongbao_code(_WITHOUT, *words, HONGBAO_DATABASE_URL=database_url)
    assert done.returncode == 2
    assert done.stderr == "hongbao: Pictures need matplotlib: install it with pip install 'hongbao[analysis]'.\n"
    done = hongbao_code(_WITHOUT_FONT, *words, "--language", "zh", HONGBAO_DATABASE_URL=database_url)
    assert done.returncode == 2
    assert done.stderr == (
        "hongbao: No Chinese font is installed, so Chinese text cannot be drawn: install one (Debian: "
        "fonts-noto-cjk), or ask "
        "for --language en.\n"
    )
    assert list(tmp_path.iterdir()) == []
    done = hongbao_code(_WITHOUT_FONT, *words, HONGBAO_DATABASE_URL=database_url)
    assert done.returncode == 0, done.stderr


async def test_a_campaigns_chinese_name_is_drawn_without_a_chinese_font(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene()
    scene.campaign("红包雨", 1_771_257_600_000, [(2, 200, [("bob", 1_771_257_600_100)], True)], 1_000_000)
    pool = await database_pool(database_url, connections_max=1, timeout_s=60.0)
    async with pool.acquire() as connection:
        await scene.write(connection)
    (finding,) = (await study(pool, DAY, DAY, names=["campaigns"])).findings
    await pool.close()
    monkeypatch.setattr(pictures, "_families", lambda _language: ["DejaVu Sans"])
    assert pictures.draw(finding, Language.EN).startswith(b"\x89PNG")


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_every_name_that_a_campaign_may_have_is_drawn(name: str) -> None:
    assert is_readable(name)
    assert pictures.draw(of_campaigns(name), Language.EN).startswith(b"\x89PNG")


def test_a_dollar_is_drawn_as_a_dollar() -> None:
    assert pictures.draw(of_campaigns("$a$"), Language.EN) != pictures.draw(of_campaigns("a"), Language.EN)


@pytest.mark.parametrize("language", Language)
async def test_a_picture_that_fails_ends_no_other(
    seen: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: Language
) -> None:
    if language is Language.ZH:
        needs_chinese_font()

    def broken(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setitem(charts.CHARTS, "shares", broken)
    two = Study(seen.scope, [finding for finding in seen.findings if finding.name in ("storm", "shares")])
    await asyncio.to_thread((tmp_path / "shares.png").write_bytes, b"of other days")
    with capture_logs() as lines:
        page, undrawn = report.write(tmp_path, two, language)
    assert undrawn == ["shares"]
    assert [line["event"] for line in lines] == ["a picture could not be drawn"]
    assert names_in(tmp_path) == ["index.html", "shares.csv", "storm.csv", "storm.png"]
    html = page.read_text("utf-8")
    assert html.count("<img ") == 1
    assert {"en": "This picture could not be drawn", "zh": "这张图画不出来"}[language] in html
    links = [value for tag, name, value in Page(html).given if (tag, name) == ("a", "href")]
    assert sorted(links) == ["shares.csv", "storm.csv", "storm.png"]


@pytest.mark.long
def test_the_command_names_what_it_could_not_draw(scene_url: str, tmp_path: Path) -> None:
    words = ("analyse", "--from", "2026-02-17", "--out", tmp_path, "--only", "storm", "--only", "shares")
    done = hongbao_code(_BROKEN, *words, HONGBAO_DATABASE_URL=scene_url)
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1] == f"The page is {(tmp_path / 'index.html').resolve()}"
    said = "hongbao: These pictures could not be drawn: shares. Their tables are written."
    assert done.stderr.splitlines()[-1] == said
    assert names_in(tmp_path) == ["index.html", "shares.csv", "storm.csv", "storm.png"]


def test_the_command_refuses_a_ledger_that_is_not_there(tmp_path: Path) -> None:
    url = "postgresql://127.0.0.1:1/none"
    done = hongbao("analyse", "--from", "2026-02-17", "--out", tmp_path, HONGBAO_DATABASE_URL=url)
    assert done.returncode == 2
    assert done.stderr.startswith("hongbao: Postgres does not answer")
