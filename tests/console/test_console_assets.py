"""Every amount of another asset than money has the asset's decimals and its code, on every page and in every file."""

import asyncio
import csv
import io
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import pytest

from api.console.pages import PAGES
from api.console.visits import Page
from engine.calendar.china_time import today
from engine.campaigns.terms import PrizeTerms
from engine.engine import Engine
from engine.operators.roles import FINANCE
from engine.packets.terms import terms_from
from engine.persisting.quarantine import Quarantine
from engine.records import SplitKind
from engine.settings import Settings
from engine.text import decimal
from tests.support import rains
from tests.support.commands import hongbao
from tests.support.console import Console, Person, open_console, words_of
from tests.support.scenes import caught_up, let_time_run_out, persisting, settled

ASSETS = {"POINTS": (0, 9_876_541), "STARS": (3, 1_357_911)}
"""The scale, and an amount that nothing else has."""
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_PART = re.compile(r"</tr>|</div>|</li>|</p>|</h\d>")


@dataclass(frozen=True, slots=True)
class Scene:
    """Of each asset a packet that bob has, one that is not refunded yet, one in quarantine, and a campaign."""

    console: Console
    packets: tuple[str, ...]
    rows: tuple[int, ...]
    campaigns: tuple[str, ...]


@pytest.fixture
async def scene(settings: Settings) -> AsyncIterator[Scene]:
    async with open_console(settings) as console:
        engine, packets, campaigns = console.desk.engine, list[str](), list[str]()
        async with persisting(settings):
            for asset, (scale, amount) in ASSETS.items():
                await engine.assets.define(asset, scale=scale, name=asset)
                claimed = await sent(engine, asset, amount)
                await engine.claims.claim(claimed, "bob")
                await settled(engine, claimed)
                packets += [claimed, await sent(engine, asset, amount)]
                await issue(engine, asset, amount)
                prize = PrizeTerms(total_fen=amount, count=1, split=SplitKind.EQUAL, asset=asset)
                campaigns.append((await rains.make_of(engine, (3_600_000, 60, (prize,)))).campaign_id)
            await caught_up(engine)
        for asset, (_, amount) in ASSETS.items():
            await engine.claims.claim(await sent(engine, asset, amount), "bob")  # it stays in its lane's stream
        for packet in packets[1::2]:
            await engine.pool.execute(
                "UPDATE packets SET state = 'expired', ended_at_ms = created_at_ms + 1, remaining_count = 1, "
                "remaining_fen = total_fen WHERE packet_id = $1",
                int(packet),
            )
        rows = await engine.pool.fetch(
            "INSERT INTO quarantine (lane, position, packet_id, kind, user_id, slot, amount_fen, at_ms, reason) "
            "SELECT packet_id % 1000, 1000 + packet_id % 1000, packet_id, 'claim', 'bob', 0, total_fen, 1, 'a test' "
            "FROM packets WHERE state = 'expired' ORDER BY asset RETURNING quarantine_id"
        )
        yield Scene(console, tuple(packets), tuple(row["quarantine_id"] for row in rows), tuple(campaigns))


async def issue(engine: Engine, asset: str, amount: int) -> None:
    known = await engine.assets.named(asset)
    await engine.assets.issue("mall", amount, known, idempotency_key=uuid4().hex, request_hash=b"x")


async def sent(engine: Engine, asset: str, amount: int) -> str:
    await issue(engine, asset, amount)
    terms = terms_from(settings=engine.settings, total_fen=amount, count=1, split=SplitKind.EQUAL, asset=asset)
    return (await engine.packets.send("mall", terms, idempotency_key=uuid4().hex, request_hash=b"x")).packet_id


def wrong_in_page(html: str) -> tuple[int, list[str]]:
    """How many of the amounts a page has, and the parts of it in which one is wrong or lacks its asset."""
    found, wrong = 0, []
    for part in map(words_of, _PART.split(html)):
        for number in _NUMBER.findall(part):
            for asset, (scale, amount) in ASSETS.items():
                if re.sub(r"\D", "", number) == str(amount):
                    found += 1
                    if number.replace(",", "") != decimal(amount, scale) or asset not in part:
                        wrong.append(part)
    return found, wrong


def wrong_in_file(text: str) -> tuple[int, list[str]]:
    """The same of a file. A column of smallest units has its unit in its title."""
    found, wrong = 0, []
    for row in csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))):
        for title, cell in row.items():
            for asset, (scale, amount) in ASSETS.items():
                if re.sub(r"[.,\t']", "", cell) == str(amount):
                    found += 1
                    right = str(amount) if title.endswith(("(fen)", "_fen")) else decimal(amount, scale)
                    if cell != right or asset not in row.values():
                        wrong.append(f"{title}: {cell} in {row}")
    return found, wrong


async def looked_at(person: Person, path: str, wrong: list[str]) -> int:
    """How many of the amounts a path has. What is wrong with them is added to ``wrong``."""
    answer = await person.get(path)
    assert answer.status_code == 200, (path, words_of(answer.text))
    kind = answer.headers["content-type"].partition(";")[0]
    if kind not in ("text/html", "text/csv"):
        return 0
    found, bad = (wrong_in_page if kind == "text/html" else wrong_in_file)(answer.text)
    wrong += [f"{path}: {one}" for one in bad]
    return found


@pytest.mark.long
async def test_every_amount_names_its_asset_and_has_its_decimals(scene: Scene) -> None:
    console = scene.console
    finance = await console.person(FINANCE)
    await finance.act("/reconciliation/run", day=today().isoformat(), provisional="yes")
    await console.desk.jobs.wait()
    ids: dict[str, tuple[object, ...]] = {
        "packet_id": scene.packets,
        "quarantine_id": scene.rows,
        "campaign_id": scene.campaigns,
        "user_id": ("bob", "mall"),
        "day": (today(),),
    }
    paths = [f"/lanes?lane={lane}" for lane in console.desk.engine.lanes]
    for row in PAGES:
        names = re.findall(r"\{(\w+)\}", row.path)
        may_see = row.method == "GET" and isinstance(row, Page) and console.may(finance, row)
        if may_see and len(names) < 2 and set(names) <= set(ids) and not row.path.endswith("proof.json"):
            paths += [row.path.format(**dict.fromkeys(names, one)) for one in (ids[names[0]] if names else ("",))]
    wrong = list[str]()
    told = {path for path in paths if await looked_at(finance, path, wrong)}
    assert wrong == []
    lists = ("/packets", "/packets.csv", "/refunds", "/refunds.csv", "/quarantine", "/quarantine.csv")
    of_one = (
        *(f"/packets/{packet}" for packet in scene.packets),
        *(f"/packets/{packet}/claims.csv" for packet in scene.packets[::2]),
        *(f"/quarantine/{row}" for row in scene.rows),
        *(f"/campaigns/{campaign}" for campaign in scene.campaigns),
    )
    assert {*lists, *of_one, "/quarantine/retry", "/users/bob", f"/reconciliation/{today()}"} <= told
    assert {path for path in told if path.startswith("/lanes?lane=")}


@pytest.mark.long
@pytest.mark.parametrize("asset", ASSETS)
async def test_tables_of_an_analysis_name_their_asset(scene: Scene, asset: str) -> None:
    finance = await scene.console.person(FINANCE)
    await finance.act("/analysis", **{"from": str(today()), "asset": asset})
    await scene.console.desk.studies.wait()
    run = scene.console.desk.studies.kept[0]
    assert run.error is None
    wrong = list[str]()
    assert await looked_at(finance, f"/analysis/runs/{run.run_id}", wrong)
    assert await looked_at(finance, f"/analysis/runs/{run.run_id}/tables/unclaimed", wrong)
    assert wrong == []


async def test_what_goes_back_at_a_closing_names_its_asset(scene: Scene) -> None:
    engine, finance = scene.console.desk.engine, await scene.console.person(FINANCE)
    for asset, (scale, amount) in ASSETS.items():
        packet = await sent(engine, asset, amount)
        await let_time_run_out(engine, packet)
        answer = await finance.act(f"/refunds/{packet}/close")
        assert f"{decimal(amount, scale)} {asset}" in words_of(answer.text).replace(",", "")


async def test_nothing_is_added_up_over_two_assets(scene: Scene) -> None:
    finance = await scene.console.person(FINANCE)
    for path in ("/", "/quarantine"):
        assert "¥0.00 + 2 rows of other assets" in words_of((await finance.get(path)).text), path


async def test_a_write_off_tells_the_amount_with_its_asset(scene: Scene) -> None:
    async with Quarantine.open(scene.console.desk.settings) as quarantine:
        told = await quarantine.dry_run(scene.rows, writes_off=True)
        assert [one.sentence for one in told] == [
            "9876541 POINTS would leave the custody",
            "1357.911 STARS would leave the custody",
        ]
        done = await quarantine.write_off(scene.rows[1], reason="a test", by="root")
    assert done.sentence == "written off, 1357.911 STARS left the custody"


async def test_the_command_lists_amounts_with_their_asset(scene: Scene) -> None:
    settings = scene.console.desk.settings
    urls = {"HONGBAO_REDIS_URL": settings.redis_url or "", "HONGBAO_DATABASE_URL": settings.database_url or ""}
    listed = await asyncio.to_thread(hongbao, "quarantine", "list", **urls)
    assert "bob claimed share 0 of 9876541 POINTS" in listed.stdout
    assert "bob claimed share 0 of 1357.911 STARS" in listed.stdout


async def test_what_came_back_is_not_told_while_a_part_is_open(scene: Scene) -> None:
    finance = await scene.console.person(FINANCE)
    text = (await finance.get("/campaigns.csv")).text.removeprefix("\ufeff")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["returned_shares"], row["returned"], row["returned_fen"]) for row in rows] == [("", "", "")] * 2
    await scene.console.desk.engine.pool.execute(
        "UPDATE packets SET state = 'expired', ended_at_ms = created_at_ms + 1, remaining_count = 1, remaining_fen = 0 "
        "WHERE purpose = 'campaign'"
    )
    text = (await finance.get("/campaigns.csv")).text.removeprefix("\ufeff")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["returned_shares"], row["returned"], row["returned_fen"]) for row in rows] == [("1", "0.00", "0")] * 2
