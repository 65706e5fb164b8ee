"""The pages about money on real servers: rows, links, filters in the address, actions, files, both languages."""

import csv
import io
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import pytest

from api.console.pages import PAGES
from api.console.visits import Page
from engine.auditing.runs import Runs
from engine.calendar.china_time import today
from engine.operators.log import Filter
from engine.records import FreezeScope, SplitKind
from engine.settings import Settings
from tests.auditing.test_runs import compared
from tests.support.console import Console, open_console
from tests.support.console_pages import hidden, page_of, rows_of, send_form, words
from tests.support.dispute_scene import MINOR, claimed_packet, with_small_disputes
from tests.support.dispute_scene import Scene as Disputed
from tests.support.scenes import caught_up, changed, fund, let_time_run_out, persisting, send, settled


@dataclass(frozen=True, slots=True)
class Scene:
    """Alice's packet of two shares, which bob and carol have; bob is accused of fraud; erin's packet is open."""

    console: Console
    disputed: Disputed
    dispute_id: str
    open: str


@pytest.fixture
async def scene(settings: Settings) -> AsyncIterator[Scene]:
    wanted = changed(with_small_disputes(settings), alert_large_fen=1, console_uphold_alone_fen_max=1_500)
    async with open_console(wanted) as console, persisting(wanted):
        engine = console.desk.engine
        number, at_ms = await claimed_packet(engine, "bob", "carol")
        still_open = await send(engine, "erin", total_fen=50, count=5, split=SplitKind.EQUAL, label="spring")
        await settled(engine, number)
        await caught_up(engine)
        disputed = Disputed(engine, number, at_ms)
        dispute = await disputed.file()
        yield Scene(console, disputed, dispute.dispute_id, still_open.packet_id)


async def file_of(person: object, path: str) -> list[list[str]]:
    """The rows of a file with its header, as a spreadsheet reads them."""
    answer = await person.get(path)  # type: ignore[attr-defined]
    assert answer.status_code == 200, words(answer.text)
    assert answer.content.startswith(b"\xef\xbb\xbf")
    assert answer.headers["content-disposition"].startswith('attachment; filename="')
    text = answer.content.decode("utf-8-sig")
    assert text.endswith("\r\n")
    return list(csv.reader(io.StringIO(text)))


@pytest.mark.long
async def test_every_page_opens_in_both_languages_for_who_may_see_all(scene: Scene) -> None:
    person = await scene.console.person("finance")
    ids = {
        "packet_id": scene.disputed.number,
        "user_id": "bob",
        "dispute_id": scene.dispute_id,
        "freeze_id": "1",
        "day": today().isoformat(),
    }
    seen = 0
    for row in PAGES:
        names = re.findall(r"\{(\w+)\}", row.path)
        if row.method != "GET" or not isinstance(row, Page) or not set(names) <= set(ids):
            continue
        if not person.operator.permissions >= {row.permission}:
            continue
        path = row.path.format(**ids)
        for language in ("zh", "en"):
            answer = await person.get(f"{path}?lang={language}")
            assert answer.status_code == 200, (path, words(answer.text)[:1_000])
            seen += 1
    assert seen >= 40


async def test_a_user_is_found_looked_at_frozen_and_noted(scene: Scene) -> None:
    console = scene.console
    risk = await console.person("risk")
    assert [row.split()[0] for row in await rows_of(risk, "/users?q=b")] == ["bob"]
    assert '<a class="id" href="/users/bob">' in await page_of(risk, "/users?q=b")
    page = await page_of(risk, "/users/bob")
    assert "¥20.00" in words(page)
    assert "a fraud dispute about" in words(page)
    assert f'href="/packets/{scene.disputed.number}"' in page
    answer = await send_form(risk, page, "/users/bob/freeze", reason="seen twice", scope="sending")
    assert answer.headers["location"] == "/users/bob?notice=done"
    assert set(await console.desk.engine.freezes.in_force("bob")) == {FreezeScope.ACCOUNT, FreezeScope.SENDING}
    await send_form(risk, page, "/users/bob/notes", note="He called.\r\nTwice.")
    await send_form(risk, page, "/users/bob/notes", note="He called.\r\nTwice.")  # the same form again
    kept = await console.desk.engine.pool.fetch("SELECT note FROM notes")
    assert [row["note"] for row in kept] == ["He called.\nTwice."]
    answer = await send_form(
        risk, page, "/users/bob/profile", kind="merchant", addresses="192.0.2.0/24", day_sent_fen_max="12.5"
    )
    profile = (await console.desk.engine.profiles.account("bob")).profile
    assert (profile.kind, profile.addresses, profile.day_sent_fen_max) == ("merchant", ["192.0.2.0/24"], 1_250)
    assert profile.changed_by == risk.name
    again = await page_of(risk, "/users/bob")
    assert 'value="12.50"' in again
    await send_form(risk, again, "/users/bob/profile", 422, kind="merchant", addresses="nowhere")
    await send_form(risk, again, "/users/bob/freeze", 422, reason="")
    for tab in ("entries", "sent", "received", "withdrawals"):
        await page_of(risk, f"/users/bob?show={tab}")
    await page_of(risk, "/users/bob?show=x", 422)
    await page_of(risk, "/users/a%20b", 422)
    assert "Nobody has paid" in words(await page_of(risk, "/users/nobody"))


async def test_a_packet_is_listed_by_its_filter_and_shown_whole(scene: Scene) -> None:
    viewer = await scene.console.person("viewer")
    number = scene.disputed.number
    everything = await rows_of(viewer, "/packets")
    assert len(everything) == 2
    assert await rows_of(viewer, "/packets?state=open&label=spring") == [row for row in everything if scene.open in row]
    assert await rows_of(viewer, "/packets?sender=alice") == [row for row in everything if number in row]
    assert await rows_of(viewer, f"/packets?from={today() + timedelta(days=1)}") == []
    assert len(await rows_of(viewer, f"/packets?from={today()}&to={today()}&least=0.50&most=40")) == 2
    filtered = await page_of(viewer, "/packets?state=open&label=spring")
    assert 'class="chips"' in filtered
    assert 'href="/packets?label=spring"' in filtered  # the chip takes its filter away and leaves the other
    page = words(await page_of(viewer, f"/packets/{number}"))
    for told in (number, "all claimed", "sent and paid ¥40.00", "settled: custody is empty", "bob ¥20.00", "agree"):
        assert told in page
    page = words(await page_of(viewer, f"/packets/{scene.open}"))
    assert "Redis open 0 ¥0.00 5 ¥0.50" in page
    assert "Ledger open 0 ¥0.00 5 ¥0.50" in page
    await page_of(viewer, "/packets/1", 404)
    await page_of(viewer, "/packets/1000000000000000001", 404)
    for odd in ("state=x", "sender=a%20b", "from=2026-13-01", "least=-1", "most=1.234", "after=1"):
        await page_of(viewer, f"/packets?{odd}", 422)
    looked = await scene.console.desk.engine.pool.fetchval(
        "SELECT count(*) FROM operator_log WHERE action = 'look at a packet' AND subject_id = $1", number
    )
    assert looked == 1


@pytest.mark.long
async def test_pages_of_a_list_have_every_row_once_and_keep_the_filter(scene: Scene) -> None:
    engine, viewer = scene.console.desk.engine, await scene.console.person("viewer")
    for _ in range(60):
        await send(engine, "zoe", total_fen=1, count=1)
    found, path, pages = list[str](), "/packets?sender=zoe", 0
    while path:
        page = await page_of(viewer, path)
        found += re.findall(r'href="/packets/(\d{19})"', page)
        link = re.search(r'rel="next" href="([^"]+)"', page)
        path = link[1].replace("&amp;", "&") if link else ""
        assert "sender=zoe" in path or not path
        pages += 1
    assert (len(found), len(set(found)), pages) == (60, 60, 2)


async def test_a_dispute_is_decided_by_one_or_by_two(scene: Scene) -> None:
    console, disputed = scene.console, scene.disputed
    ann, ben = await console.person("finance", "ann"), await console.person("finance", "ben")
    viewer = await console.person("viewer")
    assert len(await rows_of(viewer, "/disputes")) == 1
    assert await rows_of(viewer, "/disputes?kind=minor") == []
    path = f"/disputes/{scene.dispute_id}"
    seen = words(await page_of(viewer, path))
    assert "he lied" not in seen
    assert "Your role does not see evidence." in seen
    page = await page_of(ann, path)
    assert "he lied" in words(page)
    assert "The amount moves from the counterparty's wallet" in words(page)
    await send_form(ann, page, f"{path}/decide", 422, outcome="upheld")  # the number is not typed
    answer = await send_form(ann, page, f"{path}/decide", outcome="upheld", typed=scene.dispute_id)
    assert answer.headers["location"] == f"{path}?notice=waits"
    assert await disputed.corrections() == 0
    row = await console.desk.engine.pool.fetchrow("SELECT * FROM approvals")
    assert row is not None
    result = await console.desk.approvals.approve(
        row["approval_id"],
        console.desk.actions,
        console.desk,
        by=ben.operator,
        seen_hash=row["arguments_hash"].hex(),
        reason="yes",
    )
    assert result["state"] == "upheld"
    assert (await disputed.balance("bob"), await disputed.corrections()) == (0, 1)
    assert "ann, approved by ben" in words(await page_of(ann, path))
    minor = await disputed.file(kind=MINOR, counterparty="carol")
    other = await page_of(ann, f"/disputes/{minor.dispute_id}")
    await send_form(ann, other, f"/disputes/{minor.dispute_id}/decide", 422, outcome="open")
    await send_form(ann, other, f"/disputes/{minor.dispute_id}/decide", outcome="rejected", typed=minor.dispute_id)
    assert "rejected" in (await rows_of(ann, "/disputes?state=decided"))[0]
    assert len(await rows_of(ann, "/disputes?state=upheld")) == 1


async def test_a_freeze_by_a_rule_is_lifted_by_two_and_an_operators_by_one(scene: Scene) -> None:
    console = scene.console
    freezes = console.desk.engine.freezes
    await freezes.freeze("carol", reason="a packet of 9 fen", frozen_by="rule:large_movement")
    await freezes.freeze("carol", reason="seen", frozen_by="root", scope=FreezeScope.SENDING)
    ann, ben = await console.person("risk", "ann"), await console.person("risk", "ben")
    listed = await rows_of(ann, "/freezes")
    assert len(listed) == 3  # and bob's, by the dispute
    assert len(await rows_of(ann, "/freezes?by=rule")) == 1
    ids = {row["frozen_by"]: row["freeze_id"] for row in await console.desk.engine.pool.fetch("SELECT * FROM freezes")}
    path = f"/freezes/{ids['rule:large_movement']}"
    page = await page_of(ann, path)
    assert "The user stays frozen by:" in words(page)
    assert (await send_form(ann, page, f"{path}/lift")).headers["location"] == f"{path}?notice=waits"
    assert FreezeScope.ACCOUNT in await freezes.in_force("carol")
    row = await console.desk.engine.pool.fetchrow("SELECT * FROM approvals")
    assert row is not None
    await console.desk.approvals.approve(
        row["approval_id"],
        console.desk.actions,
        console.desk,
        by=ben.operator,
        seen_hash=row["arguments_hash"].hex(),
        reason="yes",
    )
    assert await freezes.in_force("carol") == [FreezeScope.SENDING]
    path = f"/freezes/{ids['root']}"
    answer = await send_form(ann, await page_of(ann, path), f"{path}/lift")
    assert answer.headers["location"] == f"{path}?notice=done"
    assert await freezes.in_force("carol") == []
    assert "Lifted" in words(await page_of(ann, path))
    await page_of(ann, "/freezes/999", 404)


async def test_refunds_that_wait_are_shown_and_closed_once(scene: Scene) -> None:
    console = scene.console
    finance = await console.person("finance")
    assert await rows_of(finance, "/refunds") == []
    await let_time_run_out(console.desk.engine, scene.open)
    await console.desk.engine.pool.execute(
        "UPDATE packets SET expires_at_ms = created_at_ms + 1 WHERE packet_id = $1", int(scene.open)
    )
    assert scene.open in (await rows_of(finance, "/refunds"))[0]
    page = await page_of(finance, f"/packets/{scene.open}")
    path = f"/refunds/{scene.open}/close"
    done = await send_form(finance, page, path, 200)
    assert "It is closed now." in words(done.text)
    assert words((await send_form(finance, page, path, 200)).text) == words(done.text)  # the same form again
    await settled(console.desk.engine, scene.open)
    assert (await console.desk.engine.wallets.get("erin")).balance_fen == 50
    other = {**hidden(page, path), "key": uuid4().hex, "reason": "again"}
    assert "It had ended before." in words((await finance.post(path, other)).text)  # type: ignore[arg-type]


async def test_withdrawals_show_the_end_of_an_account_and_the_provider_is_asked(scene: Scene) -> None:
    engine = scene.console.desk.engine
    await fund(engine, "erin", 5_000)
    await engine.payment_passwords.put("erin", "135790", None)
    await engine.withdrawals.withdraw(
        "erin", 1_000, "6222020200112233", "135790", idempotency_key="k", request_hash=b"w"
    )
    finance = await scene.console.person("finance")
    page = await page_of(finance, "/withdrawals")
    assert "62220202" not in page
    assert "•••• 2233" in words(page)
    await send_form(finance, page, "/withdrawals/1/ask")
    assert await engine.pool.fetchval("SELECT count(*) FROM sandbox_payouts") == 1
    assert len(await rows_of(finance, "/withdrawals?state=processing&user=erin")) == 1
    assert await rows_of(finance, "/withdrawals?state=failed") == []


async def test_nobody_is_asked_about_a_withdrawal_that_does_not_exist(scene: Scene) -> None:
    finance = await scene.console.person("finance")
    assert (await finance.act("/withdrawals/999/ask")).status_code == 404
    rows = (await scene.console.desk.log.page(Filter(action="ask the provider"))).rows
    assert [row.outcome for row in rows] == ["refused", "asked"]


async def test_alerts_are_acknowledged_by_the_selection(scene: Scene) -> None:
    risk = await scene.console.person("risk")
    listed = await rows_of(risk, "/alerts?waiting=yes")
    assert len(listed) == 2
    page = await page_of(risk, "/alerts")
    first = re.findall(r'name="id" value="(\d+)"', page)[0]
    await send_form(risk, page, "/alerts/acknowledge", id=first, reason="known")
    assert len(await rows_of(risk, "/alerts?waiting=yes")) == 1
    assert risk.name in (await rows_of(risk, "/alerts?waiting=no"))[0]
    await send_form(risk, page, "/alerts/acknowledge", 422)
    log = (await scene.console.desk.log.page(Filter(action="acknowledge alerts", outcome="ok"))).rows
    assert [row.arguments for row in log] == [f'{{"acknowledged":["{first}"]}}']
    assert await rows_of(risk, "/alerts?kind=burst") == []


async def test_labels_have_sums_and_a_limit(scene: Scene) -> None:
    risk = await scene.console.person("risk")
    (row,) = await rows_of(risk, "/labels?label=spr")
    assert row.startswith("spring 1 5 ¥0.50")
    page = await page_of(risk, "/labels")
    await send_form(risk, page, "/labels/limit", label="spring", limit="10")
    (row,) = await rows_of(risk, "/labels?label=spring")
    assert row.endswith("¥10.00 ¥9.50")


async def test_a_day_is_compared_shown_and_explained(scene: Scene) -> None:
    console = scene.console
    finance, viewer = await console.person("finance"), await console.person("viewer")
    page = await page_of(finance, "/reconciliation")
    await send_form(finance, page, "/reconciliation/run", day=today().isoformat(), provisional="yes")
    await console.desk.jobs.wait()
    assert console.desk.jobs.last is not None
    assert console.desk.jobs.last.error is None
    path = f"/reconciliation/{today()}"
    assert "agrees" in words(await page_of(viewer, path))
    assert "provisional" in words(await page_of(viewer, "/reconciliation"))
    runs = Runs(console.desk.engine.pool)
    day = today() - timedelta(days=1)
    number = await runs.keep_reconciliation(
        day, [compared(differs=True), compared("claims")], started_at_ms=1, by="daily", is_provisional=False
    )
    path = f"/reconciliation/{day}"
    page = await page_of(finance, path)
    assert 'href="/packets/1000000000000000001"' in page
    assert 'href="/users/bob"' in page
    assert "31 differ" in words(await page_of(viewer, "/reconciliation"))
    await send_form(finance, page, f"{path}/explain", reason="the bank was late")
    assert "the bank was late" in words(await page_of(viewer, path))
    assert "explained" in words(await page_of(viewer, "/reconciliation"))
    assert len(await runs.reasons(number)) == 1
    table = await file_of(finance, f"{path}/differences.csv")
    assert table[1][4] == "\t1000000000000000001"
    assert len(table) == 21
    await page_of(viewer, "/reconciliation/2026-13-01", 422)
    await page_of(viewer, "/reconciliation/9999-12-31", 422)
    await page_of(viewer, "/reconciliation/2026-01-01")


async def test_an_audit_is_run_shown_and_its_anchor_kept(scene: Scene) -> None:
    console = scene.console
    operator = await console.person("operator")
    page = await page_of(operator, "/audit")
    assert "No audit was kept yet." in words(page)
    await send_form(operator, page, "/audit/run", full="yes")
    await console.desk.jobs.wait()
    page = await page_of(operator, "/audit")
    assert "clean" in words(page)
    assert "no user has two shares of a packet" in words(page)
    await page_of(operator, "/audit/1")
    await page_of(operator, "/audit/9", 404)
    answer = await operator.get("/audit/1/anchor.json")
    assert "chains_unbroken" in answer.text
    overview = words(await page_of(operator, "/"))
    assert "Last audit clean" in overview


async def test_the_overview_tells_today_and_what_waits(scene: Scene) -> None:
    viewer = await scene.console.person("viewer")
    told = words(await page_of(viewer, "/"))
    for part in ("Sent ¥40.50 2 packets", "Claimed ¥40.00 2 claims", "Refunded ¥0.00", "Open packets 1", "Alerts 2"):
        assert part in told
    assert "Disputes overdue 0 0 due within a day, 1 open" in told
    assert "Freezes in force 1" in told


async def test_a_fenced_lane_is_told_and_rebuilt(scene: Scene) -> None:
    console = scene.console
    engine, operator = console.desk.engine, await console.person("operator")
    lane = engine.lanes[0]
    page = await page_of(operator, f"/lanes?lane={lane}")
    assert "The lane serves" in words(page)
    await engine.redis.delete(f"{{hongbao:{lane:03d}}}:lane")
    page = await page_of(operator, f"/lanes?lane={lane}")
    assert "does not serve" in words(page)
    assert "Lanes that do not serve" in words(await page_of(operator, "/"))
    await send_form(operator, page, f"/lanes/{lane}/recover", 422, typed="x")
    answer = await send_form(operator, page, f"/lanes/{lane}/force", typed=str(lane), reason="the disk is gone")
    assert "notice=waits" in answer.headers["location"]
    await send_form(operator, page, f"/lanes/{lane}/recover", typed=str(lane), reason="the disk is gone")
    page = await page_of(operator, f"/lanes?lane={lane}")
    assert "The lane serves" in words(page)
    assert "lost" in words(page)  # the rebuilding, with its reason
    assert await engine.pool.fetchval("SELECT count(*) FROM recoveries") == 1
    await page_of(operator, "/lanes?lane=x", 422)


async def test_files_have_all_rows_of_the_filter_exactly_and_no_live_formula(scene: Scene) -> None:
    console = scene.console
    engine, finance = console.desk.engine, await console.person("finance")
    for _ in range(3):
        await send(engine, "zoe", total_fen=150, count=1, greeting="=1+1")
    await engine.freezes.freeze("zoe", reason="=1+1", frozen_by="@x")
    await engine.freezes.freeze("zoe", reason='+a, "b"\n-c', frozen_by="root")
    table = await file_of(finance, "/packets.csv?sender=zoe")
    assert [row[6:8] for row in table[1:]] == [["1.50", "150"]] * 3
    numbers = {row[0] for row in table[1:]}
    assert all(re.fullmatch(r"\t\d{19}", number) for number in numbers)
    assert len(numbers) == 3
    assert len(await file_of(finance, "/packets.csv?sender=zoe&state=expired")) == 1
    frozen = await file_of(finance, "/freezes.csv?user=zoe")
    assert [row[3] for row in frozen[1:]] == ['\'+a, "b"\n-c', "'=1+1"]
    assert frozen[2][4] == "'@x"
    users = await file_of(finance, "/users.csv?q=zo")
    assert users[1][:3] == ["zoe", "0.00", "0"]
    entries = await file_of(finance, "/users/zoe/entries.csv")
    assert {row[3] for row in entries[1:]} == {"-1.50", "1.50"}
    told = await engine.pool.fetch(
        "SELECT outcome, told FROM operator_log WHERE action = 'export packets' ORDER BY number"
    )
    assert [tuple(row) for row in told][:2] == [("asked", ""), ("ok", "3 rows")]
    viewer = await console.person("viewer")
    for path in ("/packets.csv", "/users.csv", "/quarantine.csv", "/withdrawals.csv", "/users/zoe/entries.csv"):
        await page_of(viewer, path, 403)
