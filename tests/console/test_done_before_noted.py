"""A console that dies between an action and its approval's note: what is done cannot be refused any more."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import httpx
import pytest

from api.console.desk import Desk
from api.console.gate import COOKIE
from engine.errors import IdempotencyKeyReusedError
from engine.ledger.database import Connection
from engine.operators.actions import Doing
from engine.operators.approvals import Approval
from engine.operators.roles import FINANCE, RISK
from engine.settings import Settings
from tests.console.test_campaign_pages import form, merchant
from tests.support.console import SAME_ORIGIN, Console, new_key, open_console, serving_console, words_of
from tests.support.scenes import assert_books_balance, changed
from tests.support.waiting import wait_until


@pytest.fixture
async def console(settings: Settings) -> AsyncIterator[Console]:
    async with open_console(changed(settings, lanes=4)) as opened:
        yield opened


def done_by(name: str, approval: Approval, desk: Desk, connection: Connection) -> Doing[Desk]:
    """The first approval's action, which ann has asked for, as an operator's console does it."""
    return Doing(
        tools=desk,
        connection=connection,
        arguments=approval.arguments,
        reason=approval.reason,
        key="approval 1",
        by=name,
        asked_by="ann",
        approval_id=1,
    )


@pytest.mark.long
async def test_a_campaign_that_was_paid_before_the_console_was_killed_cannot_be_refused(
    console: Console, settings: Settings
) -> None:
    await merchant(console)
    pool, ann, bob = (
        console.desk.engine.pool,
        await console.person(FINANCE, "ann"),
        await console.person(FINANCE, "bob"),
    )
    asked = await ann.act("/campaigns", **await form(console))
    path = asked.headers["location"].partition("?")[0]
    hash_hex = (await console.desk.approvals.get(1)).hash
    token = await console.staff.token("cid", FINANCE)

    async def is_paid() -> bool:
        return bool(await pool.fetchval("SELECT count(*) FROM campaigns") == 1)

    async with serving_console(changed(settings, lanes=4)) as (origin, process), pool.acquire() as holding:
        held = holding.transaction()
        await held.start()
        await holding.execute("LOCK TABLE approvals IN SHARE MODE")  # the note must wait, the campaign need not
        headers = {"cookie": f"{COOKIE}={token}", **SAME_ORIGIN}
        async with httpx.AsyncClient(base_url=origin, headers=headers, timeout=30) as http:
            fields = {"key": new_key(), "reason": "seen", "hash": hash_hex}
            approving = asyncio.create_task(http.post(f"{path}/approve", data=fields))
            await wait_until(is_paid, what="the campaign being paid")
            process.kill()
            await process.wait()
            with pytest.raises(httpx.TransportError):
                await approving
        await held.rollback()

    async def is_free() -> bool:
        """The dead process's connection is gone, and its lock on the approval with it."""
        return bool(await pool.fetchval("SELECT approval_id FROM approvals FOR UPDATE SKIP LOCKED") == 1)

    await wait_until(is_free, what="the dead process's locks being gone")
    for person in (bob, ann):  # to refuse, and to withdraw
        answer = await person.act(f"{path}/refuse", reason="too dear")
        assert answer.status_code == 409
        assert "This was done already" in words_of(answer.text)
    assert (await console.desk.approvals.get(1)).state == "waiting"
    told = await pool.fetchval("SELECT told FROM operator_log WHERE outcome = 'refused' ORDER BY number DESC LIMIT 1")
    assert told.startswith("already_done: ")
    assert (await bob.act(f"{path}/approve", hash=hash_hex)).status_code == 303
    assert (await console.desk.approvals.get(1)).state == "executed"
    assert await is_paid()
    assert (await console.desk.engine.wallets.get("mall")).balance_fen == 40_000
    await assert_books_balance(pool)


async def test_what_was_refused_is_not_paid_by_a_console_that_was_slow(console: Console) -> None:
    """It has lost the connection that locks the approval, but goes on with the campaign on another one."""
    await merchant(console)
    desk, ann, bob = console.desk, await console.person(FINANCE, "ann"), await console.person(FINANCE, "bob")
    await ann.act("/campaigns", **await form(console))
    approval = await desk.approvals.get(1)
    assert (await bob.act("/approvals/1/refuse", reason="too dear")).status_code == 303
    action = desk.actions.get(approval.action)
    assert action is not None
    async with desk.engine.pool.acquire() as connection:
        doing = done_by("cid", approval, desk, connection)
        with pytest.raises(IdempotencyKeyReusedError):
            await action.execute(doing)
    assert await desk.engine.pool.fetchval("SELECT count(*) FROM campaigns") == 0
    key = hashlib.sha256(b"console: approval 1").hexdigest()
    assert await desk.engine.pool.fetchval("SELECT count(*) FROM idempotency WHERE key = $1", key) == 1


async def test_a_freeze_that_was_lifted_before_it_was_noted_cannot_be_kept_by_a_refusal(console: Console) -> None:
    desk, ann, bob = console.desk, await console.person(RISK, "ann"), await console.person(RISK, "bob")
    await desk.engine.freezes.freeze("carol", reason="a packet of 9 fen", frozen_by="rule:large_movement")
    await desk.engine.freezes.freeze("dave", reason="a packet of 9 fen", frozen_by="rule:large_movement")
    for number in (1, 2):
        answer = await ann.act(f"/freezes/{number}/lift", reason="a known person")
        assert answer.headers["location"].endswith("notice=waits")
    approval = await desk.approvals.get(1)
    action = desk.actions.get(approval.action)
    assert action is not None
    async with desk.engine.pool.acquire() as connection:
        doing = done_by("bob", approval, desk, connection)
        await action.execute(doing)  # and the process died before the approval said so
    assert (await bob.act("/approvals/1/refuse")).status_code == 409
    assert (await bob.act("/approvals/2/refuse")).status_code == 303
    assert (await bob.act("/approvals/1/approve", hash=approval.hash)).status_code == 303
