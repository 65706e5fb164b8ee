"""Many operators who act in one moment, and rights that are taken away between two steps of an action."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from engine.operators.roles import ADMIN, FINANCE, RISK, VIEWER
from engine.settings import Settings
from tests.support.console import SAME_ORIGIN, Console, Person, new_key, open_console


@pytest.fixture
async def console(settings: Settings) -> AsyncIterator[Console]:
    async with open_console(settings) as opened:
        yield opened


async def ask(person: Person, amount: str = "12.34") -> str:
    """Ask for a deposit to alice. Returns the approval's path."""
    answer = await person.act("/deposits", user_id="alice", amount=amount)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"].partition("?")[0]


async def seen_hash(person: Person, path: str) -> str:
    return (await person.get(path)).text.split('name="hash" value="')[1].split('"')[0]


async def balance_fen(console: Console) -> int:
    return (await console.desk.engine.wallets.get("alice")).balance_fen


async def test_actions_at_once_do_not_wait_for_each_others_connections(console: Console) -> None:
    """Each holds one of the pool's connections while the engine needs another."""
    risk = await console.person(RISK)
    began_s = time.monotonic()
    answers = await asyncio.gather(*(risk.act(f"/users/user-{number}/freeze") for number in range(12)))
    assert [answer.status_code for answer in answers] == [303] * 12
    assert time.monotonic() - began_s < 8


async def test_what_was_asked_by_who_is_disabled_or_may_no_longer_is_not_done(console: Console) -> None:
    admin, bob = await console.person(ADMIN), await console.person(FINANCE, "bob")
    for name, change in (("ann", "disable"), ("cid", "role")):
        asker = await console.person(FINANCE, name)
        path = await ask(asker)
        seen = await seen_hash(bob, path)
        assert (await admin.act(f"/operators/{name}/{change}", role=VIEWER)).status_code == 303
        answer = await bob.act(f"{path}/approve", hash=seen)
        assert answer.status_code == 409, answer.text
        assert await balance_fen(console) == 0
        assert (await bob.act(f"{path}/refuse")).status_code == 303


async def test_rights_are_those_of_the_moment_when_a_form_is_complete(console: Console) -> None:
    """Who sends a form slowly does nothing with rights that were taken away in between."""
    admin, risk = await console.person(ADMIN), await console.person(RISK, "eve")

    async def slowly() -> AsyncIterator[bytes]:
        yield f"key={new_key()}&reason=mine".encode()
        assert (await admin.act("/operators/eve/disable")).status_code == 303
        yield b"&scope=account"

    headers = {"content-type": "application/x-www-form-urlencoded", **SAME_ORIGIN}
    answer = await risk.http.post("/users/bob/freeze", content=slowly(), headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert await console.desk.engine.pool.fetchval("SELECT count(*) FROM freezes") == 0
