"""The live page's answers: who gets them, which points they have, and the file."""

import csv
import io
from collections.abc import AsyncIterator

import pytest

from api.console.live.points import Point, gap
from engine.operators.roles import FINANCE, OPERATOR, ROLES, VIEWER
from engine.settings import Settings
from tests.support.console import Console, open_console

START_MS = 1_700_000_000_000


@pytest.fixture
async def console(settings: Settings) -> AsyncIterator[Console]:
    async with open_console(settings) as opened:
        yield opened


def fill(console: Console) -> None:
    ring = console.desk.live.sampler.ring
    first_ms = max(START_MS, ring.newest_ms + 1)
    ring.add(Point(at_ms=first_ms, elapsed_ms=1_000, counts={"claims.claimed": 3}, gauges={"lag.seconds": 0.25}))
    ring.add(gap(first_ms + 1_000))
    ring.add(Point(at_ms=first_ms + 2_000, elapsed_ms=2_000, counts={"claims.empty": 5}))


async def test_the_page_names_what_it_shows_in_both_languages(console: Console) -> None:
    person = await console.person(VIEWER)
    english = (await person.get("/live?lang=en")).text
    assert "Claims per second, by outcome" in english
    assert "No data for {n} s" in english
    chinese = (await person.get("/live?lang=zh")).text
    assert "每秒领取，按结果" in chinese
    assert "Claims per second" not in chinese
    for page in (english, chinese):
        assert "<script>" not in page
        assert " style=" not in page


async def test_the_wall_has_nothing_to_press(console: Console) -> None:
    person = await console.person(VIEWER)
    wall = (await person.get("/live?wall=1&lang=en")).text
    assert 'class="wall"' in wall
    for chrome in ("<nav", "<button", "<select", "/logout"):
        assert chrome not in wall
    assert "live-chart-claims" in wall


async def test_points_come_as_columns_and_only_the_new_ones(console: Console) -> None:
    person = await console.person(VIEWER)
    fill(console)
    whole = (await person.get("/live.json?window=86400")).json()
    assert whole["step_ms"] == 10_000  # a day is in steps of ten seconds
    answer = (await person.get("/live.json?window=900")).json()
    points = dict(zip(answer["at_ms"], answer["series"]["claims.claimed"], strict=True))
    (won_ms,) = [at_ms for at_ms, value in points.items() if value == 3]
    assert points[won_ms + 1_000] is None
    assert points[won_ms + 2_000] == 0
    assert {lane["lane"] for lane in answer["lanes"]} == set(console.desk.engine.lanes)
    later = (await person.get(f"/live.json?window=900&after={won_ms + 1_000}")).json()
    assert later["at_ms"][0] == won_ms + 2_000
    assert later["series"]["elapsed_ms"][0] == 2_000
    assert answer["now_ms"] > START_MS
    newest_ms = console.desk.live.sampler.ring.newest_ms
    nothing = (await person.get(f"/live.json?after={newest_ms + 60_000}")).json()
    assert nothing["at_ms"] == []


@pytest.mark.parametrize(
    "query", ["window=0", "window=86401", "window=x", "after=-1", "after=1e9", "window=٣", f"after={2**60}"]
)
async def test_a_window_that_cannot_be_is_refused_by_its_name(console: Console, query: str) -> None:
    person = await console.person(VIEWER)
    answer = await person.get(f"/live.json?{query}&lang=en")
    assert answer.status_code in (400, 422)
    assert query.partition("=")[0] in answer.text


async def test_every_role_may_look_and_only_some_may_take_it_away(console: Console) -> None:
    for role in ROLES:
        person = await console.person(role)
        assert (await person.get("/live")).status_code == 200
        assert (await person.get("/live.json")).status_code == 200
        may = role in (FINANCE, OPERATOR)
        assert (await person.get("/live.csv")).status_code == (200 if may else 403)
        assert ('href="/live.csv' in (await person.get("/live")).text) is may


async def test_without_a_session_there_are_no_points(console: Console) -> None:
    async with console.browser() as nobody:
        answer = await nobody.get("/live.json")
        assert answer.status_code in (303, 401)
        assert "at_ms" not in answer.text


async def test_the_file_has_the_windows_points(console: Console) -> None:
    person = await console.person(FINANCE)
    fill(console)
    answer = await person.get("/live.csv?window=900")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.content.startswith("\ufefftime,at_ms,elapsed_ms,".encode())
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    points = (await person.get("/live.json?window=900")).json()
    assert [int(row["at_ms"]) for row in rows] == points["at_ms"][: len(rows)]
    (won,) = [row for row in rows if row["claims.claimed"] == "3"]
    assert won["time"].endswith("+08:00")
    assert won["lag.seconds"] == "0.25"
    unknown = rows[rows.index(won) + 1]
    assert {unknown["elapsed_ms"], unknown["claims.claimed"], unknown["p99_ms"]} == {""}
