"""支付密码: set, changed, tried; and that no number of hands gets more tries than there are."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as with_settings
from hypothesis import strategies as st

from engine.engine import Engine
from engine.errors import (
    HongbaoError,
    InvalidFieldsError,
    NoPaymentPasswordError,
    OverloadedError,
    PaymentPasswordLockedError,
    WrongPaymentPasswordError,
)
from engine.settings import Settings
from engine.wallets.payment_passwords import WAITING_MAX, PaymentPasswords
from tests.support.front import Client, Json, open_front
from tests.support.scenes import changed
from tests.support.waiting import wait_until

PATH = "/v1/wallets/alice/payment-password"
RIGHT, WRONG = "135790", "135791"
TRIES = 5
LOCK_MS = 3 * 3_600 * 1_000


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with open_front(settings) as client:
        yield client


async def put(client: Client, user: str = "alice", **body: str) -> httpx.Response:
    return await client.http.put(PATH, json=body, headers=client.as_user(user))


async def row_of(engine: Engine) -> Json:
    row = await engine.pool.fetchrow("SELECT * FROM payment_passwords WHERE user_id = 'alice'")
    assert row is not None
    return dict(row)


async def let_lock_end(engine: Engine) -> None:
    await engine.pool.execute("UPDATE payment_passwords SET locked_until_ms = 1 WHERE locked_until_ms IS NOT NULL")


async def tried(engine: Engine, password: str) -> str:
    """What became of a try: "", or the code of its refusal."""
    try:
        await engine.payment_passwords.check("alice", password)
    except HongbaoError as error:
        return error.code
    return ""


async def test_a_password_is_set_and_changed_with_the_current_one(client: Client, engine: Engine) -> None:
    first = await put(client, password=RIGHT)
    assert (first.status_code, first.json()["user_id"]) == (200, "alice")
    without = await put(client, password="000000")
    assert (without.status_code, without.json()["errors"][0]["field"]) == (422, "current_password")
    wrong = await put(client, password="000000", current_password=WRONG)
    assert (wrong.status_code, wrong.json()["code"], wrong.json()["tries_left"]) == (403, "wrong_payment_password", 4)
    assert await tried(engine, RIGHT) == ""
    assert (await put(client, password="000000", current_password=RIGHT)).status_code == 200
    assert (await tried(engine, RIGHT), await tried(engine, "000000")) == ("wrong_payment_password", "")
    assert (await row_of(engine))["set_at_ms"] >= first.json()["set_at_ms"]


async def test_without_one_there_is_nothing_to_check_or_change(client: Client, engine: Engine) -> None:
    answer = await put(client, password=RIGHT, current_password=WRONG)
    assert (answer.status_code, answer.json()["code"]) == (409, "no_payment_password")
    with pytest.raises(NoPaymentPasswordError):
        await engine.payment_passwords.check("alice", RIGHT)
    assert await engine.pool.fetchval("SELECT count(*) FROM payment_passwords") == 0


async def test_only_the_user_or_a_backend_for_him_sets_it(client: Client) -> None:
    assert (await put(client, "mallory", password=RIGHT)).status_code == 403
    for headers, status in (
        (client.as_backend("mallory"), 403),
        (client.as_user("root", "admin"), 403),
        (client.as_user("alice", "claim"), 403),
        (client.as_backend(), 422),
        (client.as_backend("alice"), 200),
    ):
        answer = await client.http.put(PATH, json={"password": RIGHT}, headers=headers)
        assert answer.status_code == status, answer.text


@pytest.mark.parametrize("password", ["", "12345", "1234567", "12345a", "１２３４５６", "123456\n", "-12345", "٣٣٣٣٣٣"])
async def test_anything_but_six_digits_is_named_and_not_repeated(client: Client, password: str) -> None:
    for body, field in (
        ({"password": password}, "password"),
        ({"password": RIGHT, "current_password": password}, "current_password"),
    ):
        answer = await put(client, **body)
        assert (answer.status_code, [problem["field"] for problem in answer.json()["errors"]]) == (422, [field])
        assert len(password) < 5 or password not in answer.text


async def test_only_an_argon2id_hash_is_kept(settings: Settings) -> None:
    """With the memory that is used outside of tests, and another salt each time."""
    async with Engine.open(changed(settings, payment_password_hash_kib=65_536)) as engine:
        await engine.payment_passwords.put("alice", RIGHT, None)
        first = (await row_of(engine))["hash"]
        await engine.payment_passwords.put("alice", RIGHT, RIGHT)
        assert first != (await row_of(engine))["hash"]
    assert re.fullmatch(r"\$argon2id\$v=19\$m=65536,t=3,p=4\$[\w+/]{22}\$[\w+/]{43}", first)


async def test_wrong_tries_are_told_how_many_are_left_and_then_lock_it(client: Client, engine: Engine) -> None:
    await put(client, password=RIGHT)
    for left in range(TRIES - 1, 0, -1):
        with pytest.raises(WrongPaymentPasswordError, match=f"locked: {left}") as wrong:
            await engine.payment_passwords.check("alice", WRONG)
        assert wrong.value.tries_left == left
    with pytest.raises(PaymentPasswordLockedError) as locked:
        await engine.payment_passwords.check("alice", WRONG)
    assert locked.value.retry_after_s == LOCK_MS / 1_000
    now_ms = await engine.pool.fetchval("SELECT extract(epoch FROM now()) * 1000")
    assert LOCK_MS - 60_000 < locked.value.locked_until_ms - now_ms <= LOCK_MS
    answer = await put(client, password=WRONG, current_password=RIGHT)
    assert (answer.status_code, answer.json()["code"]) == (423, "payment_password_locked")
    assert answer.json()["locked_until_ms"] == locked.value.locked_until_ms
    assert LOCK_MS / 1_000 - 60 < int(answer.headers["retry-after"]) <= LOCK_MS / 1_000


async def test_while_it_is_locked_the_right_one_is_refused_and_afterwards_counting_begins_anew(
    client: Client, engine: Engine
) -> None:
    await put(client, password=RIGHT)
    for _ in range(TRIES):
        await tried(engine, WRONG)
    before = await row_of(engine)
    assert [await tried(engine, password) for password in (RIGHT, WRONG)] == ["payment_password_locked"] * 2
    assert await row_of(engine) == before  # trying on does not make it longer
    await let_lock_end(engine)
    assert [await tried(engine, WRONG) for _ in range(TRIES)] == [
        *["wrong_payment_password"] * (TRIES - 1),
        "payment_password_locked",
    ]
    await let_lock_end(engine)
    assert await tried(engine, RIGHT) == ""
    assert (await row_of(engine))["locked_until_ms"] is None


async def test_the_right_one_makes_wrong_tries_forgotten(client: Client, engine: Engine) -> None:
    await put(client, password=RIGHT)
    for _ in range(3):
        assert [await tried(engine, password) for password in (*[WRONG] * (TRIES - 1), RIGHT)][-1] == ""
    assert (await row_of(engine))["wrong_tries"] == 0


async def test_hands_at_once_get_no_more_tries_than_one(settings: Settings) -> None:
    """Two processes, twenty hands each; the right one is among them, too late for all but luck."""
    async with Engine.open(settings) as one, Engine.open(settings) as other:
        await one.payment_passwords.put("alice", RIGHT, None)
        results = await asyncio.gather(*(tried(engine, WRONG) for _ in range(20) for engine in (one, other)))
        assert Counter(results) == {"wrong_payment_password": TRIES - 1, "payment_password_locked": 40 - TRIES + 1}
        assert await tried(one, RIGHT) == "payment_password_locked"


async def test_two_who_set_a_first_one_at_once_do_not_both_succeed(engine: Engine) -> None:
    results = await asyncio.gather(
        *(engine.payment_passwords.put("alice", f"11111{number}", None) for number in range(6)), return_exceptions=True
    )
    assert sum(isinstance(result, int) for result in results) == 1
    assert sum(isinstance(result, InvalidFieldsError) for result in results) == 5
    (won,) = [number for number, result in enumerate(results) if isinstance(result, int)]
    assert await tried(engine, f"11111{won}") == ""


async def test_too_many_that_wait_are_refused_and_not_counted(engine: Engine) -> None:
    """Its queue is filled by those who wait for a locked row."""
    await engine.payment_passwords.put("alice", RIGHT, None)
    async with engine.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM payment_passwords FOR UPDATE")
        waiting = [asyncio.create_task(tried(engine, RIGHT)) for _ in range(WAITING_MAX)]
        await wait_until(lambda: engine.payment_passwords.waiting == WAITING_MAX, what="the queue's being full")
        with pytest.raises(OverloadedError):
            await engine.payment_passwords.check("alice", WRONG)
    assert set(await asyncio.gather(*waiting)) == {""}
    assert (await row_of(engine))["wrong_tries"] == 0


@with_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tries=st.lists(st.sampled_from(["right", "wrong", "wrong", "wrong", "wait"]), max_size=30), most=st.integers(1, 6)
)
async def test_any_walk_of_tries_is_answered_as_a_few_lines_say(engine: Engine, tries: list[str], most: int) -> None:
    await engine.pool.execute("DELETE FROM payment_passwords")
    passwords = PaymentPasswords(engine.pool, changed(engine.settings, payment_password_tries_max=most))
    await passwords.put("alice", RIGHT, None)
    wrong, locked = 0, False
    for step in tries:
        if step == "wait":
            await let_lock_end(engine)
            locked = False
            continue
        wrong = 0 if step == "right" and not locked else wrong + (not locked)
        locked, wrong = (True, 0) if wrong == most else (locked, wrong)
        expected: object = most - wrong if step == "wrong" else None
        try:
            await passwords.check("alice", RIGHT if step == "right" else WRONG)
            told: object = None
        except WrongPaymentPasswordError as error:
            told = error.tries_left
        except PaymentPasswordLockedError:
            told = "locked"
        assert told == ("locked" if locked else expected)
