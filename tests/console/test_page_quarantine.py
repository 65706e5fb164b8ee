"""The quarantine's pages: seen at once, tried without a trace, retried oldest first, written off by two."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg
import orjson
import pytest

from api.console.desk import Desk
from api.console.refusals import NotDoneError
from engine.errors import UnavailableError
from engine.ids import new_packet_number
from engine.operators.actions import Action, Doing, Registry
from engine.operators.log import Filter
from engine.settings import Settings
from tests.persisting.test_quarantine_dry_run import checksums
from tests.support.books import Books, claim, expired, opening
from tests.support.commands import hongbao
from tests.support.console import Console, Person, open_console
from tests.support.console_pages import page_of, rows, rows_of, send_form, words
from tests.support.scenes import assert_books_balance


@pytest.fixture
async def console(settings: Settings) -> AsyncIterator[Console]:
    async with open_console(settings) as opened:
        yield opened


@pytest.fixture
async def books(console: Console, database_url: str) -> AsyncIterator[Books]:
    """The ledger of the console's engine, without its Redis."""
    connection = await asyncpg.connect(database_url)
    yield Books(connection=connection)
    await connection.close()


async def badge(person: Person, path: str) -> int:
    """The number beside a page's name in the navigation."""
    found = re.search(rf'href="{path}"[^>]*>[^<]*<span class="badge">(\d+)</span>', await page_of(person, path))
    return int(found[1]) if found else 0


async def seeded(books: Books) -> int:
    """A packet whose three changes came before it was there, and one change that can never be taken."""
    number = int(new_packet_number(0))
    await books.apply(opening(number), claim(number, "bob", 0, 60), expired(number, 2, 40))
    await books.packet(total_fen=100, count=3, number=number)
    twice = await books.packet(total_fen=100, count=3)
    await books.apply(opening(twice), claim(twice, "bob", 0, 50), claim(twice, "bob", 1, 30))
    return number


async def test_replay(console: Console, books: Books, settings: Settings) -> None:
    """Point 19: listed at once, a dry run changes no table, all go oldest first, each fate is told."""
    number = await seeded(books)
    finance = await console.person("finance")
    listed = await rows_of(finance, "/quarantine")
    assert len(listed) == 4
    env = {"HONGBAO_REDIS_URL": settings.redis_url or "", "HONGBAO_DATABASE_URL": settings.database_url or ""}
    command = await asyncio.to_thread(hongbao, "quarantine", "list", "--json", **env)
    assert len(orjson.loads(command.stdout)) == await badge(finance, "/quarantine") == 4
    assert str(number) in listed[0]
    kept = await checksums(books.connection)
    tried = await page_of(finance, "/quarantine/retry")
    after = await checksums(books.connection)
    assert {name for name in kept if kept[name] != after[name]} <= {"operator_sessions"}
    assert [("taken" in row, "left" in row) for row in rows(tried)] == [(True, False)] * 3 + [(False, True)]
    assert "3 of 4 rows would be taken." in words(tried)
    done = await send_form(finance, tried, "/quarantine/retry", 200, reason="the packet is there now")
    assert [("taken" in row) for row in rows(done.text)] == [True, True, True, False]
    again = await send_form(finance, tried, "/quarantine/retry", 200, reason="the packet is there now")
    assert rows(again.text) == rows(done.text)  # a double submit is one effect, with the same answer
    log = (await console.desk.log.page(Filter(action="retry quarantine", outcome="ok"))).rows
    acted_on = [orjson.loads(row.arguments) for row in log]  # the form says only that it is about all
    assert [(len(one["taken"]), len(one["not_taken"])) for one in acted_on] == [(3, 1), (3, 1)]
    assert {*acted_on[0]["taken"], *acted_on[0]["not_taken"]} == {row.split()[0] for row in listed}
    assert len(await rows_of(finance, "/quarantine")) == 1
    assert len(await rows_of(finance, "/quarantine?state=resolved")) == 3
    assert len(await rows_of(finance, f"/quarantine?state=all&packet={number}")) == 3
    assert await rows_of(finance, "/quarantine?kind=opening") == []
    await assert_books_balance(books.connection)


async def test_a_write_off_needs_two_and_tells_first_what_it_does(console: Console, books: Books) -> None:
    await seeded(books)
    asker, other = await console.person("finance", "ann"), await console.person("finance", "ben")
    twice = (await books.quarantine())[-1]
    await books.apply(expired(twice["packet_id"], 1, 20))
    path = f"/quarantine/{twice['quarantine_id']}"
    page = await page_of(asker, path)
    assert "it still breaks a rule" in words(page)
    assert "30 fen would leave the custody" in words(page)
    answer = await send_form(asker, page, f"{path}/write-off", typed=str(twice["quarantine_id"]))
    assert answer.headers["location"] == f"{path}?notice=waits"
    row = await books.connection.fetchrow("SELECT * FROM approvals")
    assert row is not None
    action, approvals = console.desk.actions.get("quarantine.write_off"), console.desk.approvals
    assert action is not None
    effect = await action.effect(console.desk, orjson.loads(row["arguments"]))
    assert ("What it does now", "30 fen would leave the custody") in effect
    await approvals.approve(
        row["approval_id"],
        console.desk.actions,
        console.desk,
        by=other.operator,
        seen_hash=row["arguments_hash"].hex(),
        reason="yes",
    )
    resolved = await books.connection.fetchrow(
        "SELECT * FROM quarantine WHERE quarantine_id = $1", twice["quarantine_id"]
    )
    assert resolved is not None
    assert (resolved["resolution"], resolved["resolved_by"]) == ("written_off", "ann, approved by ben")
    assert await books.balance(3) == 30


async def test_a_write_off_that_was_done_before_the_console_died_is_approved_again(
    console: Console, books: Books
) -> None:
    await seeded(books)
    ann, ben, cid = [await console.person("finance", name) for name in ("ann", "ben", "cid")]
    twice = (await books.quarantine())[-1]
    await books.apply(expired(twice["packet_id"], 1, 20))
    path = f"/quarantine/{twice['quarantine_id']}"
    for reason in ("it is lost", "another one"):
        await send_form(
            ann, await page_of(ann, path), f"{path}/write-off", typed=str(twice["quarantine_id"]), reason=reason
        )
    first, second = await books.connection.fetch("SELECT * FROM approvals ORDER BY approval_id")
    known = console.desk.actions.get("quarantine.write_off")
    assert known is not None

    async def dying(doing: Doing[Desk]) -> dict[str, Any]:
        await known.execute(doing)
        raise UnavailableError("the console dies before it has noted the approval")

    async def approve(row: asyncpg.Record, person: Person, action: Action[Desk]) -> dict[str, Any]:
        seen = row["arguments_hash"].hex()
        return await console.desk.approvals.approve(
            row["approval_id"], Registry([action]), console.desk, by=person.operator, seen_hash=seen, reason="yes"
        )

    with pytest.raises(UnavailableError):
        await approve(first, ben, replace(known, execute=dying))
    assert await books.balance(3) == 30
    assert (await approve(first, cid, known))["sentence"] == "written off, 30 fen left the custody"
    assert await books.balance(3) == 30
    with pytest.raises(NotDoneError, match="it was already written off"):
        await approve(second, cid, known)


async def test_who_may_only_read_has_no_button_and_bad_filters_are_refused(console: Console, books: Books) -> None:
    await seeded(books)
    viewer = await console.person("viewer")
    page = await page_of(viewer, "/quarantine")
    assert "checkbox" not in page
    assert "/quarantine.csv" not in page
    await page_of(viewer, "/quarantine.csv", 403)
    await page_of(viewer, "/quarantine/retry", 403)
    for odd in ("state=x", "kind=x", "lane=-1", "lane=1e3", "packet=1", "after=x"):
        assert "Some fields are wrong" in words(await page_of(viewer, f"/quarantine?{odd}", 422))
    await page_of(viewer, "/quarantine/99", 422)
    await page_of(viewer, "/quarantine/x", 422)
