"""Four eyes: what one operator asks for and another one approves is done once, exactly as it was asked."""

import asyncio
import re
from collections.abc import AsyncIterator

import asyncpg
import orjson
import pytest

from api.console import asked
from api.console.texts import Texts
from engine.auditing.audit import audit
from engine.operators.approvals import SQL as APPROVALS
from engine.operators.log import Filter
from engine.operators.roles import ADMIN, FINANCE, OPERATOR, RISK, SUPPORT, VIEWER
from engine.settings import Settings
from tests.support.console import Console, Person, new_key, open_console, words_of


@pytest.fixture
async def console(settings: Settings) -> AsyncIterator[Console]:
    async with open_console(settings) as opened:
        yield opened


async def balance_fen(console: Console, user_id: str = "alice") -> int:
    return (await console.desk.engine.wallets.get(user_id)).balance_fen


async def ask(person: Person, amount: str = "12.34", **form: str) -> str:
    """Ask for a deposit to alice. Returns the approval's path."""
    answer = await person.act("/deposits", user_id="alice", amount=amount, **form)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"].partition("?")[0]


async def seen_hash(person: Person, path: str) -> str:
    return (await person.get(path)).text.split('name="hash" value="')[1].split('"')[0]


async def approve(person: Person, path: str, **form: str) -> int:
    if "hash" not in form:
        form["hash"] = await seen_hash(person, path)
    return (await person.act(f"{path}/approve", **form)).status_code


async def test_a_deposit_waits_and_is_done_once_another_operator_approves(console: Console) -> None:
    ann, bob = await console.person(FINANCE, "ann"), await console.person(FINANCE, "bob")
    path = await ask(ann)
    assert await balance_fen(console) == 0
    page = (await bob.get(path)).text
    assert "12.34" in page
    assert "a test" in page
    assert '<dt>User</dt><dd><a class="id" href="/users/alice">alice</a></dd>' in page
    assert await approve(bob, path, reason="seen the slip") == 303
    assert await balance_fen(console) == 1_234
    assert await approve(bob, path, hash="") == 409
    assert await balance_fen(console) == 1_234
    engine = console.desk.engine
    broken = [finding for finding in await audit(engine.pool, engine.store, engine.stream) if not finding.holds]
    assert broken == []
    rows = (await console.desk.log.page(Filter())).rows
    told = [(row.operator, row.action, row.outcome, row.approval_id) for row in reversed(rows)]
    assert told[:4] == [
        ("ann", "deposit", "asked", None),
        ("ann", "deposit", "ok", 1),
        ("bob", "approve", "asked", None),
        ("bob", "approve", "ok", 1),
    ]


async def test_who_asked_cannot_approve(console: Console) -> None:
    ann = await console.person(FINANCE, "ann")
    path = await ask(ann)
    page = (await ann.get(path)).text
    assert 'name="hash"' not in page
    bob = await console.person(FINANCE, "bob")
    assert (await ann.act(f"{path}/approve", hash=await seen_hash(bob, path))).status_code == 403
    assert await balance_fen(console) == 0


@pytest.mark.parametrize("role", [RISK, OPERATOR, SUPPORT])
async def test_who_may_not_do_it_cannot_approve_it(console: Console, role: str) -> None:
    ann, bob = await console.person(FINANCE, "ann"), await console.person(FINANCE, "bob")
    other = await console.person(role)
    path = await ask(ann)
    assert 'name="hash"' not in (await other.get(path)).text
    assert (await other.act(f"{path}/approve", hash=await seen_hash(bob, path))).status_code == 403
    assert (await other.act(f"{path}/refuse")).status_code == 403
    assert await balance_fen(console) == 0


async def badge(person: Person) -> int:
    """What stands beside Approvals in the menu."""
    found = re.search(
        r'href="/approvals"[^>]*>[^<]*(?:<span class="badge">(\d+)</span>)?', (await person.get("/me")).text
    )
    assert found is not None
    return int(found[1] or 0)


async def test_the_badge_counts_what_this_operator_may_decide_now(console: Console) -> None:
    ann, bob = await console.person(FINANCE, "ann"), await console.person(FINANCE, "bob")
    others = [await console.person(role) for role in (RISK, OPERATOR, SUPPORT, VIEWER, ADMIN)]
    paths = [await ask(ann) for _ in range(2)] + [await ask(bob)]
    assert [await badge(one) for one in (ann, bob, *others)] == [1, 2, 0, 0, 0, 0, 0]
    assert (await bob.get("/approvals?lang=en")).text.count("you may decide") == 2
    assert "you may decide" not in (await others[0].get("/approvals?lang=en")).text
    assert await approve(bob, paths[0]) == 303
    assert (await ann.act(f"{paths[1]}/refuse")).status_code == 303
    assert [await badge(one) for one in (ann, bob)] == [1, 0]
    await console.desk.engine.pool.execute("UPDATE operators SET role = 'risk' WHERE name = 'ann'")
    assert await badge(ann) == 0
    async with console.desk.engine.pool.acquire() as connection:
        await connection.execute("ALTER TABLE approvals DISABLE TRIGGER approvals_keep_what_was_asked")
        await connection.execute("UPDATE approvals SET expires_at_ms = 1 WHERE state = 'waiting'")
    await console.desk.engine.pool.execute("UPDATE operators SET role = 'finance' WHERE name = 'ann'")
    assert await badge(ann) == 0


async def test_the_badge_is_counted_from_an_index_alone(console: Console) -> None:
    """However many have expired or were decided before: the index begins at what still waits."""
    async with console.desk.engine.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            """
            INSERT INTO approvals (action, subject_kind, subject_id, arguments, arguments_hash, reason, asked_by,
                asked_at_ms, expires_at_ms)
            SELECT 'deposit', '', '', '{}', '', '', 'ann', n, n FROM generate_series(1, 20000) AS n
            """
        )
        await connection.execute("ANALYZE approvals")
        plan = await connection.fetch(f"EXPLAIN {APPROVALS['count_to_decide']}", ["deposit"], "bob", 1_000)
        told = "\n".join(row[0] for row in plan)
        assert "approvals_to_decide" in told
        assert "Index Cond: (expires_at_ms >" in told
        assert "Seq Scan" not in told


async def test_the_page_says_who_may_decide(console: Console) -> None:
    ann, bob = await console.person(FINANCE, "ann"), await console.person(FINANCE, "bob")
    other = await console.person(OPERATOR)
    path = await ask(ann)
    told = words_of((await other.get(f"{path}?lang=en")).text)
    assert "Your role may not decide this." in told
    assert "Who may: an operator with the role finance." in told
    assert "Who may: an operator with the role finance." in words_of((await ann.get(f"{path}?lang=en")).text)
    assert "Who may" not in words_of((await bob.get(f"{path}?lang=en")).text)


async def test_what_is_decided_shows_what_was_asked_for_and_not_what_it_would_do_again(console: Console) -> None:
    ann, bob = await console.person(FINANCE, "ann"), await console.person(FINANCE, "bob")
    path = await ask(ann)
    assert "24.68" not in (await bob.get(path)).text
    assert await approve(bob, path) == 303
    page = (await bob.get(f"{path}?lang=en")).text
    assert "24.68" not in page
    assert "Balance now" not in page
    assert '<dt>Amount</dt><dd><span class="amount">¥12.34</span></dd>' in page
    assert '<dt>User</dt><dd><a class="id" href="/users/alice">alice</a></dd>' in page
    assert '<dt>Balance afterwards</dt><dd><span class="amount">¥12.34</span></dd>' in page  # what came of it
    assert "<code>1234</code>" in page  # exactly as it is kept


def test_each_argument_of_an_action_for_two_has_a_label_in_both_languages() -> None:
    gettext = Texts().of("zh", "approvals").gettext
    labels = [label for label, _ in asked._NAMES.values()]
    assert [label for label in labels if gettext(label) == label] == []


async def test_what_a_campaign_was_to_be_is_told_line_by_line(console: Console) -> None:
    ann = await console.person(FINANCE, "ann")
    arguments = {
        "owner": "mall",
        "name": "春节红包雨",
        "odds_millionths": 125_000,
        "who": "listed",
        "guests": ["bob", "eve"],
        "waves": [[1_790_000_000_000, 60, [["", "lucky", 60_000, 3_000]]]],
        "wins_max": None,
        "label": "",
    }
    await console.desk.engine.pool.execute(
        """
        INSERT INTO approvals (action, subject_kind, subject_id, arguments, arguments_hash, reason, asked_by,
            asked_at_ms, expires_at_ms, state, decided_by, decided_at_ms, result)
        VALUES ('campaign.fund', 'user', 'mall', $1, '', 'x', 'bob', 1, 2, 'executed', 'ann', 2, '{"campaign_id": "7"}')
        """,
        orjson.dumps(arguments).decode(),
    )
    page = (await ann.get("/approvals/1?lang=en")).text
    told = words_of(page.partition("<details>")[0].partition("<main")[2])
    assert "Who may win in a wave 12.5 %" in told
    assert "60 s: ¥600.00 in 3,000 shares" in told
    assert "those who are named" in told
    assert 'href="/users/eve"' in page
    assert 'href="/campaigns/7"' in page
    assert "Wins in all" not in told


async def test_a_deposit_to_a_name_that_nobody_has_used_is_pointed_out(console: Console) -> None:
    ann, bob = await console.person(FINANCE, "ann"), await console.person(FINANCE, "bob")
    wanted, warning = "/deposits?user_id=alice&amount=1&lang=en", "Nobody has paid or frozen this user yet."
    told = words_of((await ann.get(wanted)).text)
    assert warning in told
    assert "Nothing moves now." in told
    assert await approve(bob, await ask(ann)) == 303
    assert warning not in words_of((await ann.get(wanted)).text)


async def test_arguments_that_were_changed_are_refused(console: Console) -> None:
    ann, bob = await console.person(FINANCE, "ann"), await console.person(FINANCE, "bob")
    path = await ask(ann)
    seen = await seen_hash(bob, path)
    pool = console.desk.engine.pool
    changed = """UPDATE approvals SET arguments = '{"amount_fen":999999,"user_id":"eve"}'"""
    with pytest.raises(asyncpg.RaiseError, match="never changes"):
        await pool.execute(changed)
    async with pool.acquire() as connection:
        await connection.execute("ALTER TABLE approvals DISABLE TRIGGER approvals_keep_what_was_asked")
        await connection.execute(changed)
    assert await approve(bob, path, hash=seen) == 409
    async with pool.acquire() as connection:  # and with a hash that fits
        await connection.execute("UPDATE approvals SET arguments_hash = sha256(arguments::bytea)")
    assert await approve(bob, path, hash=seen) == 409
    assert await balance_fen(console) == await balance_fen(console, "eve") == 0


async def test_what_was_asked_by_somebody_who_cannot_sign_in_any_more_is_not_done(console: Console) -> None:
    admin, ann, bob = await console.person(ADMIN), await console.person(FINANCE), await console.person(FINANCE)
    path = await ask(ann)
    for change in ("disable", "reset", "enable"):
        assert (await admin.act(f"/operators/{ann.name}/{change}")).status_code in (200, 303)
        assert await approve(bob, path) == 409
    assert await balance_fen(console) == 0


async def test_two_who_approve_at_once_do_it_once(console: Console) -> None:
    ann, bob, cid = [await console.person(FINANCE, name) for name in ("ann", "bob", "cid")]
    path = await ask(ann)
    seen = await seen_hash(bob, path)
    found = await asyncio.gather(*(approve(one, path, hash=seen) for one in (bob, cid, bob, cid)))
    assert sorted(found) == [303, 409, 409, 409]
    assert await balance_fen(console) == 1_234


async def test_a_form_that_is_sent_twice_asks_once(console: Console) -> None:
    ann = await console.person(FINANCE, "ann")
    key = new_key()
    paths = [await ask(ann, key=key) for _ in range(3)]
    assert len(set(paths)) == 1
    assert await console.desk.approvals.waiting_count() == 1
    other = await ann.act("/deposits", user_id="alice", amount="99", key=key)
    assert other.status_code == 422  # the key was used for another request


async def test_a_day_later_it_cannot_be_approved(console: Console) -> None:
    ann, bob = await console.person(FINANCE, "ann"), await console.person(FINANCE, "bob")
    path = await ask(ann)
    seen = await seen_hash(bob, path)
    async with console.desk.engine.pool.acquire() as connection:
        await connection.execute("ALTER TABLE approvals DISABLE TRIGGER approvals_keep_what_was_asked")
        await connection.execute("UPDATE approvals SET expires_at_ms = expires_at_ms - 86400000")
    assert await approve(bob, path, hash=seen) == 409
    assert "expired" in (await bob.get(path)).text
    assert await balance_fen(console) == 0
    assert path not in (await bob.get("/approvals")).text
    assert path in (await bob.get("/approvals?all=1")).text


async def test_it_is_refused_by_another_or_withdrawn_by_who_asked(console: Console) -> None:
    ann, bob = await console.person(FINANCE, "ann"), await console.person(FINANCE, "bob")
    for person, state in ((bob, "refused"), (ann, "withdrawn")):
        path = await ask(ann)
        seen = await seen_hash(bob, path)
        assert (await person.act(f"{path}/refuse", reason="not that one")).status_code == 303
        assert state in (await bob.get(path)).text
        assert await approve(bob, path, hash=seen) == 409
    assert await balance_fen(console) == 0


async def test_what_the_ledger_refuses_still_waits(console: Console) -> None:
    ann, bob = await console.person(FINANCE, "ann"), await console.person(FINANCE, "bob")
    path = await ask(ann)
    pool = console.desk.engine.pool
    await pool.execute("ALTER TABLE accounts ADD CONSTRAINT none CHECK (owner <> 'alice') NOT VALID")
    assert await approve(bob, path) == 500
    assert (await console.desk.approvals.get(1)).state == "waiting"
    await pool.execute("ALTER TABLE accounts DROP CONSTRAINT none")
    assert await approve(bob, path) == 303
    assert await balance_fen(console) == 1_234


async def test_an_installation_of_one_does_without_and_the_log_says_so(settings: Settings) -> None:
    async with open_console(settings.model_copy(update={"console_four_eyes": False})) as console:
        ann = await console.person(FINANCE, "ann")
        key = new_key()
        for _ in range(2):
            answer = await ann.act("/deposits", user_id="alice", amount="5", key=key)
            assert answer.headers["location"] == "/deposits?notice=done"
        assert await balance_fen(console) == 500
        rows = (await console.desk.log.page(Filter(action="deposit", outcome="ok"))).rows
        assert "without a second operator" in rows[-1].told
        assert "a repeat of the same form" in rows[0].told


async def test_money_needs_a_code_if_the_last_one_is_old(console: Console) -> None:
    ann = await console.person(FINANCE, "ann")
    await console.desk.engine.pool.execute("UPDATE operator_sessions SET proved_at_ms = proved_at_ms - 600001")
    page = (await ann.get("/deposits?user_id=alice&amount=1")).text
    assert 'name="code"' in page
    form = {"user_id": "alice", "amount": "1"}
    assert (await ann.act("/deposits", **form)).status_code == 403
    assert (await ann.act("/deposits", **form, code="000000")).status_code == 403
    assert (await ann.act("/deposits", **form, code=await console.code(ann))).status_code == 303
    assert (await ann.act("/deposits", **form)).status_code == 303  # for ten minutes
    assert 'name="code"' not in (await ann.get("/deposits?user_id=alice&amount=1")).text


async def test_a_reason_and_a_key_are_asked_for(console: Console) -> None:
    ann = await console.person(FINANCE, "ann")
    form = {"user_id": "alice", "amount": "1"}
    for wrong in ({"reason": ""}, {"reason": "x" * 501}, {"reason": "\u202e"}, {"key": ""}, {"key": "../.."}):
        assert (await ann.act("/deposits", **{**form, **wrong})).status_code == 422, wrong
    for amount in ("", "0", "-1", "1.234", "1e3", "x", "99999999999999", "1.", "٣"):
        assert (await ann.act("/deposits", user_id="alice", amount=amount)).status_code == 422, amount
    assert await console.desk.approvals.waiting_count() == 0
