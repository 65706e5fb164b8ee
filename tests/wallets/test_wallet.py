"""Wallets: balances, deposits, and movements page by page."""

import asyncio

import httpx
import pytest

from engine.engine import Engine
from engine.errors import InvalidFieldsError, ServerRefusesError
from engine.settings import Settings
from engine.wallets.wallets import Wallet, WalletTransfer
from tests.support.front import open_front
from tests.support.scenes import assert_books_balance, caught_up, changed, fund, persisting, send


async def all_transfers(engine: Engine, user_id: str, limit: int) -> list[WalletTransfer]:
    """Every page, put together."""
    found, after = list[WalletTransfer](), None
    while True:
        page = await engine.wallets.transfers(user_id, after=after, limit=limit)
        assert 0 < len(page.transfers) <= limit
        found += page.transfers
        after = page.next
        if after is None:
            return found


async def test_who_was_never_paid_holds_nothing(engine: Engine) -> None:
    assert await engine.wallets.get("nobody") == Wallet(user_id="nobody", balance_fen=0, currency="CNY", scale=2)
    page = await engine.wallets.transfers("nobody", after=None, limit=10)
    assert (page.transfers, page.next) == ([], None)


async def test_a_deposit_comes_from_the_bank(engine: Engine) -> None:
    deposit = await engine.wallets.deposit("bob", 700, idempotency_key="key", request_hash=b"body")
    assert (deposit.user_id, deposit.amount_fen, deposit.balance_fen, deposit.replayed) == ("bob", 700, 700, False)
    assert (await engine.wallets.get("bob")).balance_fen == 700
    assert await engine.pool.fetchval("SELECT balance_fen FROM accounts WHERE kind = 'bank'") == -700
    await assert_books_balance(engine.pool)


@pytest.mark.parametrize("amount_fen", [0, -1, 1_001])
async def test_a_deposit_out_of_bounds_names_the_field_and_does_nothing(settings: Settings, amount_fen: int) -> None:
    async with Engine.open(changed(settings, deposit_fen_max=1_000)) as engine:
        with pytest.raises(InvalidFieldsError) as caught:
            await fund(engine, "bob", amount_fen)
        assert [problem.field for problem in caught.value.problems] == ["amount_fen"]
        assert await engine.pool.fetchval("SELECT count(*) FROM transfers") == 0
        await fund(engine, "bob", 1_000)


async def test_deposits_at_once_are_all_there(engine: Engine) -> None:
    await asyncio.gather(*(fund(engine, f"user{number % 3}", 10) for number in range(60)))
    balances = [(await engine.wallets.get(f"user{number}")).balance_fen for number in range(3)]
    assert balances == [200, 200, 200]
    await assert_books_balance(engine.pool)


async def test_movements_are_told_from_the_wallets_side_newest_first(engine: Engine, settings: Settings) -> None:
    async with persisting(settings):
        mine = await send(engine, "alice", total_fen=500, count=2)
        theirs = await send(engine, "bob", total_fen=300, count=1)
        won = [await engine.claims.claim(packet.packet_id, "alice") for packet in (mine, theirs)]
        await engine.claims.claim(mine.packet_id, "bob")
        await caught_up(engine)
    moved = await all_transfers(engine, "alice", limit=10)
    assert [(transfer.kind, transfer.amount_fen, transfer.packet_id) for transfer in moved[-2:]] == [
        ("send", -500, mine.packet_id),
        ("deposit", 500, None),
    ]
    # The two claims are of two lanes, perhaps, and then in either order.
    assert sorted((transfer.kind, transfer.amount_fen, transfer.packet_id) for transfer in moved[:-2]) == sorted(
        ("claim", result.amount_fen, packet.packet_id) for result, packet in zip(won, (mine, theirs), strict=True)
    )
    assert sum(transfer.amount_fen for transfer in moved) == (await engine.wallets.get("alice")).balance_fen


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
async def test_pages_make_up_the_whole_without_a_gap_or_a_repeat(engine: Engine, limit: int) -> None:
    for _ in range(3):
        await send(engine, "alice", total_fen=100, count=1)
    await fund(engine, "alice", 5)
    await fund(engine, "eve", 9)
    found = await all_transfers(engine, "alice", limit)
    identities = [int(transfer.transfer_id) for transfer in found]
    assert identities == sorted(set(identities), reverse=True)
    assert [transfer.amount_fen for transfer in found] == [5, -100, 100, -100, 100, -100, 100]


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1-1", "1.5", "٣", "9" * 40, " 1", "1\n"])
async def test_a_cursor_that_is_none_is_named(engine: Engine, cursor: str) -> None:
    with pytest.raises(InvalidFieldsError) as caught:
        await engine.wallets.transfers("alice", after=cursor, limit=10)
    assert [problem.field for problem in caught.value.problems] == ["after"]


async def test_what_postgres_refuses_is_said(engine: Engine) -> None:
    await engine.pool.execute("ALTER TABLE accounts RENAME TO elsewhere")
    for asked in (
        engine.wallets.get("alice"),
        engine.wallets.transfers("alice", after=None, limit=1),
        fund(engine, "alice", 1),
    ):
        with pytest.raises(ServerRefusesError, match='Postgres refuses: relation "accounts" does not exist'):
            await asked


async def test_one_deposit_that_two_admins_send_with_its_key_is_made_once(settings: Settings) -> None:
    async with open_front(settings) as client:

        async def deposit(admin: str, user_id: str, amount_fen: int) -> httpx.Response:
            headers = client.as_user(admin, "admin") | {"idempotency-key": "bank-transaction-1"}
            path, body = f"/v1/wallets/{user_id}/deposits", {"amount_fen": amount_fen}
            return await client.http.post(path, json=body, headers=headers)

        first, again = await deposit("root", "alice", 500), await deposit("other", "alice", 500)
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json() == again.json()
        assert again.headers["idempotency-replayed"] == "true"
        elsewhere = await deposit("root", "bob", 500)  # another wallet's is another deposit, not another body
        assert (elsewhere.status_code, elsewhere.json()["user_id"]) == (201, "bob")
        assert "idempotency-replayed" not in elsewhere.headers
        more = await deposit("other", "alice", 501)
        assert (more.status_code, more.json()["code"]) == (422, "idempotency_key_reused")
        for user_id in ("alice", "bob"):
            wallet = await client.http.get(f"/v1/wallets/{user_id}", headers=client.as_user(user_id))
            assert wallet.json()["balance_fen"] == 500
