"""提现 over HTTP: asked, held, ended; repeated, refused, listed."""

import hashlib
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import orjson
import pytest

from engine.calendar.china_time import day_of
from engine.engine import Engine
from engine.settings import Settings
from tests.support.front import Client, Json, new_key, open_front
from tests.support.scenes import assert_books_balance, changed, fund, sweeping
from tests.support.waiting import wait_until

PATH = "/v1/wallets/alice/withdrawals"
GOOD, BAD = "6222020200112233", "6222020200110000"
RIGHT, WRONG = "135790", "135791"


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    """Alice has a payment password and 10,000 yuan."""
    async with open_front(settings) as client:
        await client.deposit("alice", 1_000_000)
        put = await client.http.put(
            "/v1/wallets/alice/payment-password", json={"password": RIGHT}, headers=client.as_user("alice")
        )
        assert put.status_code == 200
        yield client


async def ask(client: Client, key: str | None = None, user: str = "alice", **changes: object) -> httpx.Response:
    body = {"amount_fen": 150_000, "bank_account": GOOD, "payment_password": RIGHT, **changes}
    headers = client.as_user(user) | {"idempotency-key": key or uuid4().hex}
    return await client.http.post(PATH.replace("alice", user), json=body, headers=headers)


async def get(client: Client, path: str = PATH, user: str = "alice", *scopes: str) -> httpx.Response:
    return await client.http.get(path, headers=client.as_user(user, *scopes))


async def balance(client: Client) -> int:
    return int((await get(client, "/v1/wallets/alice")).json()["balance_fen"])


async def tries(engine: Engine) -> int:
    wrong: int = await engine.pool.fetchval("SELECT wrong_tries FROM payment_passwords")
    return wrong


@pytest.mark.parametrize(("account", "state", "left_fen"), [(GOOD, "settled", 849_950), (BAD, "failed", 1_000_000)])
async def test_a_withdrawal_is_processed_and_then_settled_or_failed(
    client: Client, settings: Settings, account: str, state: str, left_fen: int
) -> None:
    asked = await ask(client, bank_account=account)
    assert asked.status_code == 201, asked.text
    told: Json = asked.json()
    expected = {"amount_fen": 150_000, "fee_fen": 50, "free_fen": 100_000, "state": "processing", "failure": None}
    assert expected.items() <= told.items()
    assert (await get(client, f"{PATH}/{told['withdrawal_id']}")).json() == told
    assert await balance(client) == 849_950
    async with sweeping(settings):

        async def has_ended() -> Json | None:
            now: Json = (await get(client, f"{PATH}/{told['withdrawal_id']}")).json()
            return None if now["state"] == "processing" else now

        ended = await wait_until(has_ended, timeout_s=10)
    assert ended is not None
    assert (ended["state"], ended["failure"] is None) == (state, state == "settled")
    assert {**ended, "state": "processing", "failure": None, "ended_at_ms": None} == told
    assert await balance(client) == left_fen
    moved = (await get(client, "/v1/wallets/alice/transfers")).json()["transfers"]
    kinds = [(one["kind"], one["amount_fen"]) for one in moved[:-1]]
    assert kinds == [*([("withdrawal_return", 150_050)] if state == "failed" else []), ("withdrawal", -150_050)]
    assert told["transfer_id"] == moved[-2]["transfer_id"]
    days = f"from={day_of(ended['asked_at_ms'])}&to={day_of(ended['ended_at_ms'])}"
    statement = await get(client, f"/v1/wallets/alice/statement.csv?{days}")
    assert ("提现退回" in statement.text) == (state == "failed")
    assert "`提现,`提现,`支出,`1500.50" in statement.text


async def test_a_repeat_is_answered_as_before_without_another_look_at_the_password(
    client: Client, engine: Engine, settings: Settings
) -> None:
    first = await ask(client, "key-1")
    async with sweeping(settings):

        async def has_ended() -> bool:
            state: str = (await get(client)).json()["withdrawals"][0]["state"]
            return state == "settled"

        await wait_until(has_ended, timeout_s=10)
    for password in (RIGHT, WRONG):
        again = await ask(client, "key-1", payment_password=password)
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert await tries(engine) == 0
    other = await ask(client, "key-1", amount_fen=150_001)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert await engine.pool.fetchval("SELECT count(*) FROM withdrawals") == 1


async def test_the_hash_that_is_kept_is_no_help_in_guessing_the_password(client: Client, engine: Engine) -> None:
    assert (await ask(client)).status_code == 201
    kept = await engine.pool.fetchval("SELECT request_hash FROM idempotency WHERE operation = 'withdraw'")
    body = {"amount_fen": 150_000, "bank_account": GOOD}
    without = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    assert kept == hashlib.sha256(b"\n".join((b"POST", PATH.encode(), without))).digest()
    rows = await engine.pool.fetch("SELECT answer::text FROM idempotency")
    assert [row["answer"] for row in rows if RIGHT in row["answer"]] == []


async def test_a_wrong_password_is_counted_and_moves_nothing(client: Client, engine: Engine) -> None:
    for left in (4, 3, 2, 1):
        answer = await ask(client, "key-1", payment_password=WRONG)
        assert (answer.status_code, answer.json()["code"]) == (403, "wrong_payment_password")
        assert answer.json()["tries_left"] == left
    locked = await ask(client, "key-1", payment_password=WRONG)
    for answer in (locked, await ask(client, "key-1")):
        assert (answer.status_code, answer.json()["code"]) == (423, "payment_password_locked")
        assert answer.json()["locked_until_ms"] == locked.json()["locked_until_ms"]
    assert await balance(client) == 1_000_000
    await engine.pool.execute("UPDATE payment_passwords SET locked_until_ms = 1")
    assert (await ask(client, "key-1")).status_code == 201
    assert await tries(engine) == 0


async def test_a_try_counts_also_where_the_wallet_would_not_do(client: Client, engine: Engine) -> None:
    assert (await ask(client, amount_fen=10**9, payment_password=WRONG)).json()["code"] == "wrong_payment_password"
    assert await tries(engine) == 1


async def test_without_a_payment_password_nothing_is_withdrawn(client: Client) -> None:
    await client.deposit("bob", 500)
    answer = await ask(client, user="bob", amount_fen=100)
    assert (answer.status_code, answer.json()["code"]) == (409, "no_payment_password")


async def test_amount_and_fee_must_be_there(client: Client, engine: Engine) -> None:
    """The fee of 999,100 is 900: 899.1, rounded up."""
    for amount_fen in (1_000_000, 999_101):
        answer = await ask(client, amount_fen=amount_fen)
        assert (answer.status_code, answer.json()["code"]) == (409, "insufficient_funds")
        assert answer.json()["errors"][0]["field"] == "amount_fen"
        assert await balance(client) == 1_000_000
    whole = await ask(client, amount_fen=999_100)
    assert (whole.status_code, whole.json()["fee_fen"]) == (201, 900)
    assert await balance(client) == 0
    await assert_books_balance(engine.pool)


async def test_a_frozen_account_withdraws_nothing_until_the_freeze_is_lifted(client: Client, engine: Engine) -> None:
    await engine.freezes.freeze("alice", reason="a test", frozen_by="root")
    answer = await ask(client, "key-1")
    assert (answer.status_code, answer.json()["code"]) == (403, "account_frozen")
    assert await balance(client) == 1_000_000
    await engine.freezes.lift("alice", reason="a test", lifted_by="root")
    assert (await ask(client, "key-1")).status_code == 201


async def test_what_fails_comes_back_to_a_frozen_account_too(
    client: Client, engine: Engine, settings: Settings
) -> None:
    assert (await ask(client, bank_account=BAD)).status_code == 201
    await engine.freezes.freeze("alice", reason="a test", frozen_by="root")
    async with sweeping(settings):

        async def is_back() -> bool:
            return await balance(client) == 1_000_000

        await wait_until(is_back, timeout_s=10)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amount_fen": 0}, "amount_fen"),
        ({"amount_fen": -1}, "amount_fen"),
        ({"amount_fen": 2**53}, "amount_fen"),
        ({"amount_fen": "100"}, "amount_fen"),
        ({"amount_fen": 1.0}, "amount_fen"),
        ({"bank_account": "1234567"}, "bank_account"),
        ({"bank_account": "1" * 35}, "bank_account"),
        ({"bank_account": "6222 0202 0011"}, "bank_account"),
        ({"bank_account": "６２２２０２０２"}, "bank_account"),
        ({"bank_account": 6222020200112233}, "bank_account"),
        ({"payment_password": "12345"}, "payment_password"),
        ({"payment_password": 135790}, "payment_password"),
        ({"fee_fen": 0}, "fee_fen"),
    ],
)
async def test_odd_fields_are_named(client: Client, engine: Engine, changes: Json, field: str) -> None:
    answer = await ask(client, **changes)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_fields")
    assert [problem["field"] for problem in answer.json()["errors"]] == [field]
    assert await tries(engine) == 0


async def test_it_needs_a_key(client: Client) -> None:
    body = {"amount_fen": 1, "bank_account": GOOD, "payment_password": RIGHT}
    answer = await client.http.post(PATH, json=body, headers=client.as_user("alice"))
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_required")


async def test_only_the_user_or_a_backend_for_him_withdraws(client: Client) -> None:
    body = {"amount_fen": 1, "bank_account": GOOD, "payment_password": RIGHT}
    for headers, status in (
        (client.as_user("mallory"), 403),
        (client.as_backend("mallory"), 403),
        (client.as_user("root", "admin"), 403),
        (client.as_user("alice", "claim"), 403),
        (client.as_backend(), 422),
        (client.as_backend("alice"), 201),
    ):
        answer = await client.http.post(PATH, json=body, headers=headers | new_key())
        assert answer.status_code == status, answer.text


async def test_withdrawals_are_listed_in_pages_and_are_their_users_own(client: Client, engine: Engine) -> None:
    asked = [(await ask(client, amount_fen=100 + number)).json() for number in range(5)]
    found: list[Json] = []
    after = ""
    while True:
        page = (await get(client, f"{PATH}?limit=2{after}")).json()
        found += page["withdrawals"]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert found == asked[::-1]
    one = f"{PATH}/{asked[0]['withdrawal_id']}"
    for user, scopes, status in (("mallory", (), 403), ("root", ("admin",), 200)):
        assert (await get(client, PATH, user, *scopes)).status_code == status
        assert (await get(client, one, user, *scopes)).status_code == status
    await fund(engine, "bob", 1)
    theirs = await get(client, one.replace("alice", "bob"), "bob")
    unknown = await get(client, f"{PATH}/{10**17}")
    for answer in (theirs, unknown):
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_withdrawal")
    for number in ("0", "-1", "x", "1" * 19):
        assert (await get(client, f"{PATH}/{number}")).json()["code"] == "not_found"
    odd = await get(client, f"{PATH}?after=x")
    assert (odd.status_code, odd.json()["errors"][0]["field"]) == (422, "after")


async def test_allowance_and_fee_are_settings(settings: Settings) -> None:
    free = changed(settings, withdrawal_free_fen=0, withdrawal_fee_per_mille=20, withdrawal_fee_fen_min=0)
    async with Engine.open(free) as engine:
        await engine.payment_passwords.put("alice", RIGHT, None)
        await fund(engine, "alice", 10_000)
        withdrawal, replayed = await engine.withdrawals.withdraw(
            "alice", 101, GOOD, RIGHT, idempotency_key="key", request_hash=b""
        )
    assert (withdrawal.fee_fen, withdrawal.free_fen, replayed) == (3, 0, False)
