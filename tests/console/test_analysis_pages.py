"""The console's pictures: a study is begun once, can be watched, is shown in both languages, and gives files."""

import asyncio
import functools
import re
from collections.abc import AsyncIterator
from datetime import date

import pytest

from engine.analysis import charts, pictures, runs, studies
from engine.analysis.finding import Language
from engine.analysis.funnel import campaigns
from engine.analysis.runs import KEPT_MAX, Run
from engine.analysis.scope import SQL
from engine.analysis.studies import STUDIES
from engine.calendar.china_time import today
from engine.campaigns import terms
from engine.campaigns.draws import MILLION
from engine.campaigns.terms import Entry
from engine.operators.roles import FINANCE, OPERATOR, ROLES, VIEWER
from engine.settings import Settings
from tests.support import rains
from tests.support.analysis_scene import lively
from tests.support.chinese_font import needs_chinese_font
from tests.support.console import Console, Person, new_key, open_console, words_of

DAY = date(2026, 2, 17)
DAYS = {"from": "2026-02-17", "to": "2026-02-18"}


@pytest.fixture
async def console(settings: Settings) -> AsyncIterator[Console]:
    async with open_console(settings) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three questions are as good as ten here, but for a long test."""
    if request.node.get_closest_marker("long") is None:
        for name in set(STUDIES) - {"storm", "shares", "concentration"}:
            monkeypatch.delitem(STUDIES, name)


async def a_lively_day(console: Console) -> None:
    async with console.desk.engine.pool.acquire() as connection:
        await lively(DAY, 1, 20, users=50).write(connection)


async def begun(console: Console, person: Person, **days: str) -> Run:
    answer = await person.act("/analysis", **(days or DAYS))
    assert answer.status_code == 303, words_of(answer.text)
    run = console.desk.studies.get(answer.headers["location"].partition("?")[0].rpartition("/")[2])
    assert run is not None
    return run


@pytest.mark.long
async def test_days_become_pictures_sentences_and_tables(console: Console) -> None:
    await a_lively_day(console)
    oscar, fay = await console.person(OPERATOR), await console.person(FINANCE)
    run = await begun(console, oscar)
    path = f"/analysis/runs/{run.run_id}"
    waiting = await oscar.get(path)
    assert 'hx-trigger="every 1s"' in waiting.text
    await console.desk.studies.wait()
    assert (run.error, run.undrawn, run.done) == (None, None, run.total)
    page = await fay.get(path)
    assert "hx-trigger" not in page.text
    assert "Shares follow the split" in words_of(page.text)
    assert page.text.count('<img src="/analysis/') == len(run.pictures) == len(STUDIES)
    picture = await fay.get(f"{path}/pictures/storm")
    assert (picture.headers["content-type"], picture.content[:4]) == ("image/png", b"\x89PNG")
    table = await fay.get(f"{path}/tables/concentration")
    assert table.content.decode("utf-8-sig").splitlines()[0] == "side,users,gini,part_of_users,part_of_amount"
    rows = await console.desk.engine.pool.fetch(
        "SELECT outcome, told FROM operator_log WHERE action = 'export analysis' ORDER BY number"
    )
    assert [row["outcome"] for row in rows] == ["asked", "ok"]
    listed = words_of((await fay.get("/analysis")).text)
    assert "2026-02-17 – 2026-02-18" in listed
    assert "ready" in listed


@pytest.mark.long
async def test_a_study_is_shown_in_the_language_of_who_looks(console: Console) -> None:
    needs_chinese_font()
    await a_lively_day(console)
    oscar = await console.person(OPERATOR)
    run = await begun(console, oscar)
    await console.desk.studies.wait()
    path = f"/analysis/runs/{run.run_id}"
    assert "领到的金额符合拆分规则" in (await oscar.get(f"{path}?lang=zh")).text
    chinese = await oscar.get(f"{path}/pictures/storm?lang=zh")
    english = await oscar.get(f"{path}/pictures/storm?lang=en")
    assert chinese.content != english.content
    assert (
        "领取" in (await oscar.get("/analysis?lang=zh")).text or "账本" in (await oscar.get("/analysis?lang=zh")).text
    )


async def test_one_study_at_a_time_and_the_last_few_are_kept(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    oscar, other = await console.person(OPERATOR), await console.person(OPERATOR)
    slow = "SELECT pg_sleep(60), $1::bigint, $2::bigint, $3::text, $4::bigint, $5::bigint"
    with monkeypatch.context() as patched:
        patched.setitem(SQL, "busiest", slow)
        first = await begun(console, oscar)
        again = await other.act("/analysis", **DAYS)
        assert f"{first.run_id}?notice=study_under_way" in again.headers["location"]
        assert "under way" in words_of((await other.get(again.headers["location"])).text)
        await console.desk.studies.close()
    assert (await other.get(f"/analysis/runs/{first.run_id}")).status_code == 200
    runs = [first]
    for _ in range(KEPT_MAX):
        runs.append(await begun(console, oscar))
        await console.desk.studies.wait()
    assert (await oscar.get(f"/analysis/runs/{first.run_id}")).status_code == 404
    assert [run.run_id for run in console.desk.studies.kept] == [run.run_id for run in reversed(runs[1:])]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"from": "soon"}, "from"),
        ({"from": ""}, "from"),
        ({"from": "2026-02-17", "to": "20260218"}, "to"),
        ({"from": "2026-02-17", "to": "2026-02-16"}, "to"),
        ({"from": "2020-01-01", "to": "2026-02-16"}, "to"),
        ({"from": "2999-01-01"}, "from"),
        ({"from": "2026-02-17", "asset": "GOLD"}, "asset"),
    ],
)
async def test_odd_days_are_refused_with_their_field(console: Console, fields: dict[str, str], field: str) -> None:
    oscar = await console.person(OPERATOR)
    answer = await oscar.act("/analysis", **fields)
    assert answer.status_code == 422
    (problem,) = re.findall(r"<li>(.*?)</li>", answer.text.partition('class="wrong"')[2].partition("</ul>")[0])
    assert problem.startswith(f"{field} must ")
    assert "--" not in problem
    assert "/v1/" not in problem
    assert console.desk.studies.kept == []
    chinese = await oscar.post("/analysis?lang=zh", {**fields, "key": new_key()})
    (told,) = re.findall(r"<li>(.*?)</li>", chinese.text.partition('class="wrong"')[2].partition("</ul>")[0])
    assert told.startswith(f"{field} ")
    assert "must" not in told


@pytest.mark.parametrize("lang", ["en", "zh"])
async def test_a_question_that_takes_too_long_is_told_in_the_pages_own_words(
    console: Console, monkeypatch: pytest.MonkeyPatch, lang: str
) -> None:
    monkeypatch.setitem(SQL, "busiest", "SELECT pg_sleep(60), $1::bigint, $2::bigint, $3::text, $4::bigint, $5::bigint")
    monkeypatch.setattr(runs, "study", functools.partial(studies.study, statement_s=0.05))
    oscar = await console.person(OPERATOR)
    run = await begun(console, oscar)
    await console.desk.studies.wait()
    page = words_of((await oscar.get(f"/analysis/runs/{run.run_id}?lang={lang}")).text)
    assert "--statement-s" not in page
    told = {"en": "Postgres took longer than 0.05 s for one question: ask for fewer days.", "zh": "请减少天数"}
    assert told[lang] in page


async def test_a_font_that_is_missing_is_told_in_the_pages_own_words(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "_families", pictures._families.__wrapped__)
    monkeypatch.setattr(pictures, "_chinese", list)
    oscar = await console.person(OPERATOR)
    answer = await oscar.post("/analysis?lang=zh", {**DAYS, "key": new_key()})
    await console.desk.studies.wait()
    page = words_of((await oscar.get(answer.headers["location"].partition("?")[0] + "?lang=zh")).text)
    assert "没有安装中文字体" in page
    assert "--language" not in page


@pytest.mark.long
async def test_without_matplotlib_there_are_sentences_and_tables(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.analysis.report.find_spec", lambda _name: None)
    await a_lively_day(console)
    oscar = await console.person(OPERATOR)
    run = await begun(console, oscar)
    await console.desk.studies.wait()
    page = await oscar.get(f"/analysis/runs/{run.run_id}")
    assert "pip install &#39;hongbao[analysis]&#39;" in page.text
    assert '<img src="/analysis/' not in page.text
    assert "shares were given" in words_of(page.text)


async def test_a_study_that_fails_says_so(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("engine.analysis.runs.study", broken)
    oscar = await console.person(OPERATOR)
    run = await begun(console, oscar)
    await console.desk.studies.wait()
    page = await oscar.get(f"/analysis/runs/{run.run_id}")
    assert "It failed: see the console&#39;s log." in page.text
    assert "failed" in words_of((await oscar.get("/analysis")).text)


async def test_a_campaigns_name_breaks_no_study(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STUDIES, "campaigns", campaigns)
    monkeypatch.setattr(terms, "LEAD_S_MIN", 0)
    await rains.make(console.desk.engine, (300, 600, 10_000, 100), name="$^$", odds_millionths=MILLION, entry=Entry())
    run = await begun(console, await console.person(OPERATOR), **{"from": str(today())})
    await console.desk.studies.wait()
    assert (run.error, run.undrawn, run.failed) == (None, None, set())
    assert ("campaigns", Language.EN) in run.pictures


async def test_a_picture_that_fails_ends_no_other(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setitem(charts.CHARTS, "shares", broken)
    await a_lively_day(console)
    oscar = await console.person(OPERATOR)
    run = await begun(console, oscar)
    await console.desk.studies.wait()
    assert (run.error, run.done) == (None, run.total)
    assert {name for name, _ in run.pictures} == {"storm", "concentration"}
    path = f"/analysis/runs/{run.run_id}"
    page = await oscar.get(path)
    assert page.text.count('<img src="/analysis/') == 2
    assert page.text.count("This picture could not be drawn: see the console's log.") == 1
    assert "Shares follow the split" in words_of(page.text)
    assert (await oscar.get(f"{path}/pictures/shares")).status_code == 404
    assert (await oscar.get(f"{path}/pictures/shares?lang=zh")).status_code == 404
    assert "画不出来" in (await oscar.get(f"{path}?lang=zh")).text


@pytest.mark.long
async def test_who_may_look_who_may_run_and_who_may_take_files(console: Console) -> None:
    await a_lively_day(console)
    run = await begun(console, await console.person(OPERATOR))
    await console.desk.studies.wait()
    path = f"/analysis/runs/{run.run_id}"
    for role, permissions in ROLES.items():
        person = await console.person(role)
        page = await person.get(path)
        assert page.status_code == 200
        exports = "analysis:export" in permissions
        assert (f"{path}/tables/storm" in page.text) == exports
        assert ((await person.get(f"{path}/tables/storm")).status_code == 200) == exports
        may_run = "analysis:run" in permissions
        assert ('action="/analysis"' in (await person.get("/analysis")).text) == may_run
        if not may_run:
            assert (await person.act("/analysis", **DAYS)).status_code == 403


async def test_what_is_not_there(console: Console) -> None:
    vera = await console.person(VIEWER)
    run = await begun(console, await console.person(OPERATOR), **{"from": "2020-01-01"})
    await console.desk.studies.wait()
    for path in ("/analysis/runs/none", "/analysis/runs/none/part", f"/analysis/runs/{run.run_id}/pictures/moon"):
        assert (await vera.get(path)).status_code == 404
    assert (await vera.get(f"/analysis/runs/{run.run_id}/pictures/storm")).status_code == 404
    assert "这项分析已不再保留" in (await vera.get("/analysis/runs/none?lang=zh")).text
    assert "no longer kept" in (await vera.get("/analysis/runs/none?lang=en")).text
    assert "Nobody claimed anything in these days." in (await vera.get(f"/analysis/runs/{run.run_id}")).text


@pytest.mark.long
async def test_the_console_answers_while_a_study_is_drawn(console: Console) -> None:
    await a_lively_day(console)
    oscar = await console.person(OPERATOR)
    run = await begun(console, oscar)
    answers = 0
    while run.ended_at_ms is None:
        assert (await oscar.get(f"/analysis/runs/{run.run_id}/part")).status_code == 200
        answers += 1
        await asyncio.sleep(0)
    assert answers > 3
