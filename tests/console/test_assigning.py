"""Alerts and disputes are assigned to operators who may do the work, and found again by whose they are."""

from collections.abc import AsyncIterator

import pytest

from engine.disputes.filing import SQL as DISPUTES
from engine.operators.log import Filter
from engine.operators.roles import ADMIN, FINANCE, OPERATOR, RISK, SUPPORT, VIEWER
from engine.risk.alerts import SQL as ALERTS
from engine.settings import Settings
from tests.support.console import Console, Person, new_key, open_console
from tests.support.console_pages import page_of, rows, rows_of, send_form
from tests.support.dispute_scene import Scene, claimed_packet, with_small_disputes
from tests.support.scenes import changed, persisting, settled

ALERT = (
    "INSERT INTO alerts (kind, user_id, at_ms, details) SELECT 'burst', 'bob', n, '{}' FROM generate_series(1, $1) AS n"
)


@pytest.fixture
async def console(settings: Settings) -> AsyncIterator[Console]:
    """Three alerts and a dispute."""
    wanted = changed(with_small_disputes(settings))
    async with open_console(wanted) as opened, persisting(wanted):
        engine = opened.desk.engine
        number, at_ms = await claimed_packet(engine, "bob", "carol")
        await settled(engine, number)
        await Scene(engine, number, at_ms).file()
        await engine.pool.execute("DELETE FROM alerts")
        await engine.pool.execute(ALERT, 3)
        yield opened


async def alert_ids(console: Console) -> list[str]:
    return [
        str(row["alert_id"]) for row in await console.desk.engine.pool.fetch("SELECT alert_id FROM alerts ORDER BY 1")
    ]


async def test_alerts_are_assigned_filtered_and_logged(console: Console) -> None:
    ann, bob = await console.person(RISK, "ann"), await console.person(RISK, "bob")
    first, second, third = await alert_ids(console)
    await send_form(ann, await page_of(ann, "/alerts"), "/alerts/acknowledge", id=first)  # it waits for nobody now
    page = await page_of(ann, "/alerts")
    fields = {"id": [first, second], "to": "ann", "key": new_key()}
    assert (await ann.post("/alerts/assign", fields)).status_code == 303  # type: ignore[arg-type]
    assert "Assign the selected ones" in page
    assert '<option value="bob">bob</option>' in page
    mine = await rows_of(ann, "/alerts?assigned=mine")
    assert [row.split()[0] for row in mine] == [second]
    assert mine[0].endswith("ann")
    assert [row.split()[0] for row in await rows_of(ann, "/alerts?assigned=nobody&waiting=yes")] == [third]
    assert [row.split()[0] for row in await rows_of(ann, "/alerts?assigned=nobody")] == [third, first]
    assert await rows_of(bob, "/alerts?assigned=mine") == []
    assert (await bob.act("/alerts/assign", id=second, to="bob")).status_code == 303
    assert [row.split()[0] for row in await rows_of(bob, "/alerts?assigned=mine&waiting=yes")] == [second]
    assert (await ann.act("/alerts/assign", id=second, to="-")).status_code == 303
    assert await rows_of(bob, "/alerts?assigned=mine") == []
    log = (await console.desk.log.page(Filter(action="assign alerts"))).rows
    assert [(row.operator, row.outcome) for row in reversed(log)] == [
        *(("ann", "asked"), ("ann", "ok"), ("bob", "asked"), ("bob", "ok"), ("ann", "asked"), ("ann", "ok"))
    ]
    assert '"to":"bob"' in log[3].arguments
    assert (await ann.get("/alerts.csv")).text.splitlines()[0].endswith("Assigned to")


async def test_a_dispute_is_assigned_until_it_is_decided(console: Console) -> None:
    ann, bob = await console.person(FINANCE, "ann"), await console.person(FINANCE, "bob")
    assert len(await rows_of(ann, "/disputes?assigned=nobody")) == 1
    page = await page_of(ann, "/disputes/1")
    await send_form(ann, page, "/disputes/1/assign", to="bob")
    assert await rows_of(ann, "/disputes?assigned=mine") == []
    assert len(await rows_of(bob, "/disputes?assigned=mine")) == 1
    assert await rows_of(bob, "/disputes?assigned=nobody") == []
    assert '<option value="bob" selected>' in await page_of(ann, "/disputes/1")
    answer = await bob.act("/disputes/1/decide", outcome="rejected", typed="1")
    assert answer.status_code == 303
    assert rows(await page_of(bob, "/disputes?assigned=mine&state=decided"))[0].endswith("bob bob")
    assert "/disputes/1/assign" not in await page_of(ann, "/disputes/1")
    assert (await ann.act("/disputes/1/assign", to="ann")).status_code == 409
    (_, done, *_) = reversed((await console.desk.log.page(Filter(action="assign a dispute"))).rows)
    assert (done.outcome, done.subject_kind, done.subject_id) == ("ok", "dispute", "1")


async def forbidden(person: Person, path: str, **fields: str) -> bool:
    return (await person.act(path, **fields)).status_code == 403


async def test_only_who_may_do_the_work_may_assign_it_and_be_given_it(console: Console) -> None:
    first, *_ = await alert_ids(console)
    people = {role: await console.person(role, role) for role in (VIEWER, SUPPORT, RISK, FINANCE, OPERATOR, ADMIN)}
    for role, person in people.items():
        assert await forbidden(person, "/alerts/assign", id=first, to=role) == (role != RISK), role
        assert await forbidden(person, "/disputes/1/assign", to=role) == (role != FINANCE), role
        assert ("/alerts/assign" in await page_of(person, "/alerts")) == (role == RISK), role
        assert ("/disputes/1/assign" in await page_of(person, "/disputes/1")) == (role == FINANCE), role
    gone = await console.person(RISK, "gone")
    await console.desk.operators.disable("gone")
    await console.desk.operators.add("new", RISK, by="tests")  # has not set up a sign-in yet
    page = await page_of(people[RISK], "/alerts")
    for name in (FINANCE, gone.name, "new", "eve", "x y", ""):
        answer = await people[RISK].act("/alerts/assign", id=first, to=name)
        assert answer.status_code == 422, name
        assert not name or f'<option value="{name}"' not in page
    assert (await people[FINANCE].act("/disputes/1/assign", to=RISK)).status_code == 422
    assert (await people[FINANCE].act("/disputes/9/assign", to=FINANCE)).status_code == 404
    assert (await people[RISK].get("/alerts?assigned=eve")).status_code == 422
    kept = await console.desk.engine.pool.fetchval("SELECT assigned_to FROM alerts WHERE alert_id = $1", int(first))
    assert kept == RISK


async def test_a_page_of_another_origin_assigns_nothing(console: Console) -> None:
    ann = await console.person(RISK, "ann")
    first, *_ = await alert_ids(console)
    fields = {"id": first, "to": "ann", "key": new_key()}
    answer = await ann.http.post("/alerts/assign", data=fields, headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    assert await console.desk.engine.pool.fetchval("SELECT count(*) FROM alerts WHERE assigned_to IS NOT NULL") == 0


@pytest.mark.long
async def test_whose_they_are_is_found_by_indexes_page_by_page(console: Console) -> None:
    ann, pool = await console.person(RISK, "ann"), console.desk.engine.pool
    await pool.execute(ALERT, 20_000)
    await pool.execute("UPDATE alerts SET assigned_to = CASE WHEN alert_id % 200 = 0 THEN 'ann' ELSE 'bob' END")
    await pool.execute("UPDATE alerts SET acknowledged_at_ms = 1, acknowledged_by = 'bob' WHERE alert_id % 3 = 0")
    await pool.execute("ANALYZE alerts")
    found, path = list[str](), "/alerts?assigned=mine"
    while path:
        page = await page_of(ann, path)
        found += [row.split()[0] for row in rows(page)]
        path = page.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    assert found == sorted(set(found), key=int, reverse=True)
    assert len(found) == await pool.fetchval("SELECT count(*) FROM alerts WHERE assigned_to = 'ann' AND alert_id > 0")
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        newest = 2**63 - 1
        for query, values, index in (
            (ALERTS["listed"], (newest, None, None, None, None, 0, newest, "ann", False, 51), "alerts_assigned"),
            (ALERTS["waiting"], (newest, None, None, None, 0, newest, None, True, 51), "alerts_waiting_for_nobody"),
            (DISPUTES["open_page"], (-1, 0, None, None, newest, None, True, 51), "disputes_open_for_nobody"),
            (DISPUTES["open_page"], (-1, 0, None, None, newest, "ann", False, 51), "disputes_open_assigned"),
        ):
            await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {query}", *values))
            assert index in plan, plan
            assert "Sort" not in plan, plan
