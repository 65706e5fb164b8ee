"""Amounts that every reader keeps exactly: a bound on all the money there is, and sums that pass it."""

import asyncio
import json
import random

import httpx
import orjson
import pytest
from structlog.testing import capture_logs

from engine.auditing.audit import audit
from engine.auditing.comparison import Day
from engine.auditing.reconciliation import reconcile
from engine.cli.reconcile import record_of
from engine.engine import Engine
from engine.errors import InsufficientFundsError, LimitExceededError, OperatorError
from engine.packets.terms import terms_from
from engine.records import FEN_MAX, SplitKind
from engine.risk.limits import AccountKind
from engine.settings import Settings
from engine.wallets.payouts import SandboxPayouts
from tests.support.books import Books, claim, opening
from tests.support.days import whole_day
from tests.support.front import open_front
from tests.support.scenes import assert_books_balance, caught_up, changed, fund, persisting, send, settled

MOST = 10**15
MOVE = "SELECT move_money($1::transfer_kind, account_id, $3, $4, 1) FROM accounts WHERE owner = $2"


async def fill(engine: Engine, left_fen: int, user_id: str = "rich") -> None:
    """Deposit until so much is left below the bound."""
    held_fen = FEN_MAX + await engine.pool.fetchval("SELECT balance_fen FROM accounts WHERE account_id = 1") - left_fen
    while held_fen > 0:
        await fund(engine, user_id, min(held_fen, MOST))
        held_fen -= min(held_fen, MOST)


async def test_a_deposit_above_the_bound_names_the_field_and_does_nothing(settings: Settings) -> None:
    async with open_front(settings) as client, Engine.open(settings) as engine:

        async def deposit(key: str, user_id: str, amount_fen: int) -> httpx.Response:
            headers = client.as_user("root", "admin") | {"idempotency-key": key}
            path, body = f"/v1/wallets/{user_id}/deposits", {"amount_fen": amount_fen}
            return await client.http.post(path, json=body, headers=headers)

        await fill(engine, 10)
        refused = await deposit("one", "new", 11)
        problem = refused.json()
        assert (refused.status_code, problem["code"], problem["limit"]) == (409, "limit_exceeded", "total_fen_max")
        assert (problem["limit_fen"], problem["left_fen"]) == (FEN_MAX, 10)
        assert [error["field"] for error in problem["errors"]] == ["amount_fen"]
        # Nothing is kept under the key of what was refused; what there is room for is taken, and told exactly.
        assert (await deposit("one", "rich", 10)).json()["balance_fen"] == FEN_MAX
        assert (await deposit("two", "rich", 1)).status_code == 409
        assert (await deposit("one", "rich", 10)).headers["idempotency-replayed"] == "true"
        wallet = await client.http.get("/v1/wallets/rich", headers=client.as_user("rich"))
        assert json.loads(wallet.content, parse_int=float)["balance_fen"] == FEN_MAX
        await assert_books_balance(engine.pool)


async def test_a_ledger_that_is_fuller_than_the_bound_refuses_and_goes_on(engine: Engine) -> None:
    # As a former release may have left it, up to where its bank could owe no more.
    await fund(engine, "rich", 1_000)
    fen = 2**63 - 1_001
    await engine.pool.execute("UPDATE accounts SET balance_fen = balance_fen - $1 WHERE account_id = 1", fen)
    await engine.pool.execute("UPDATE accounts SET balance_fen = balance_fen + $1 WHERE owner = 'rich'", fen)
    with capture_logs() as logs:
        for amount_fen in (1, MOST):
            with pytest.raises(LimitExceededError) as caught:
                await fund(engine, "bob", amount_fen)
            assert (caught.value.left_fen, caught.value.field) == (0, "amount_fen")
    assert [(log["event"], log["left_fen"]) for log in logs] == [("ledger_full", 0)]  # once, whoever asks
    assert await engine.pool.fetchval("SELECT sum(balance_fen) FROM accounts") == 0


async def test_deposits_at_once_pass_the_bound_in_no_order(engine: Engine) -> None:
    await fill(engine, 1_000)
    done = await asyncio.gather(*(fund(engine, f"user{n % 7}", 150) for n in range(20)), return_exceptions=True)
    refused = [error for error in done if error is not None]
    assert (len(refused), {type(error) for error in refused}) == (14, {LimitExceededError})
    assert await engine.pool.fetchval("SELECT balance_fen FROM accounts WHERE account_id = 1") == 100 - FEN_MAX
    await assert_books_balance(engine.pool)


async def test_the_largest_packet_is_exact_on_its_whole_way(settings: Settings) -> None:
    large = changed(settings, share_fen_max=MOST, transfer_fen_max=MOST)
    async with Engine.open(large) as engine, persisting(large):
        await fill(engine, MOST, "rich")
        odd = MOST - 1
        packet = await send(engine, "alice", total_fen=odd, count=1, split=SplitKind.EQUAL, max_fen=MOST)
        assert (await engine.views.packet(packet.packet_id)).remaining_fen == odd
        assert (await engine.claims.claim(packet.packet_id, "bob")).amount_fen == odd
        await caught_up(engine)
        await settled(engine, packet.packet_id)
        assert (await engine.wallets.get("bob")).balance_fen == odd
        await fund(engine, "bob", 1)
        two = terms_from(settings=large, total_fen=odd, count=2, split=SplitKind.LUCKY, min_fen=3, max_fen=MOST - 5)
        sent = await engine.packets.send("bob", two, idempotency_key="two", request_hash=b"two")
        first = (await engine.claims.claim(sent.packet_id, "carol")).amount_fen
        view = await engine.views.packet(sent.packet_id)
        assert (view.claimed_fen, view.remaining_fen) == (first, odd - first)
        await caught_up(engine)
        await assert_books_balance(engine.pool)


@pytest.mark.parametrize("name", ["transfer_fen_max", "deposit_fen_max", "share_fen_max", "festival_share_fen_max"])
def test_no_setting_allows_an_amount_that_cannot_be_split(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"HONGBAO_{name.upper()}", str(MOST + 1))
    with pytest.raises(OperatorError, match=f"HONGBAO_{name.upper()}"):
        Settings.load()


@pytest.mark.long
async def test_claims_of_more_than_there_is_are_set_aside(books: Books) -> None:
    packet = await books.packet(total_fen=100, count=4)
    await books.apply(opening(packet))
    shares = [claim(packet, f"user{slot}", slot, FEN_MAX) for slot in range(2_048)]  # 2**64 - 2048: nothing, by 64 bits
    applied = await books.apply(*shares, claim(packet, "bob", 3_000, 60))
    assert (applied.claims, applied.quarantined) == (1, 2_048)
    assert (await books.balance("bob"), await books.balance(packet)) == (60, 40)
    await assert_books_balance(books.connection)


async def test_a_days_sums_above_64_bits_are_compared_and_told_exactly(engine: Engine) -> None:
    # Deposited, paid out, deposited again: 10,000 times the largest deposit.
    day = Day.of(await whole_day())
    await fund(engine, "rich", 1_000)
    query = """
        INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms)
        SELECT kind::transfer_kind, payer, payee, $1, floor(extract(epoch FROM clock_timestamp()) * 1000)
        FROM generate_series(1, 10000), (VALUES
            ('deposit', 1, (SELECT account_id FROM accounts WHERE owner = 'rich')),
            ('withdrawal', (SELECT account_id FROM accounts WHERE owner = 'rich'), 4), ('payout', 4, 1)
        ) AS round (kind, payer, payee)
    """
    await engine.pool.execute(query, MOST)
    provider = SandboxPayouts(engine.pool, engine.settings)
    found = await reconcile(engine.pool, engine.store, engine.stream, provider, day)
    rows = {comparison.name: comparison for comparison in found}
    assert rows["deposit: ledger"].left.fen == rows["deposit: ledger"].right.fen == 10_000 * MOST + 1_000
    assert rows["withdrawal out: statements"].agrees
    findings = await audit(engine.pool, engine.store, engine.stream)
    assert all(finding.holds for finding in findings if finding.invariant.startswith("balances"))
    shown = orjson.loads(orjson.dumps([record_of(comparison) for comparison in found]))
    (deposits,) = [record for record in shown if record["name"] == "deposit: ledger"]
    assert deposits["left"]["fen"] == str(10_000 * MOST + 1_000)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_moves_no_account_passes_the_bound(settings: Settings, seed: int) -> None:
    large, chance = changed(settings, share_fen_max=MOST), random.Random(seed)
    users = ("rich", "bob", "carol")
    async with Engine.open(large) as engine, persisting(large):
        await fill(engine, chance.choice((0, 1, 7, MOST)))
        for number in range(40):
            user, amount_fen = chance.choice(users), chance.choice((1, 2, 7, MOST // 3, MOST - 1, MOST))
            try:
                match chance.choice(("deposit", "send", "withdraw", "payout")):
                    case "deposit":
                        await fund(engine, user, amount_fen)
                    case "send":
                        terms = terms_from(settings=large, total_fen=amount_fen, count=1, split=SplitKind.EQUAL)
                        sent = await engine.packets.send(user, terms, idempotency_key=f"{number}", request_hash=b"")
                        await engine.claims.claim(sent.packet_id, chance.choice(users))
                    case "withdraw":
                        await engine.pool.fetchval(MOVE, "withdrawal", user, 4, amount_fen)
                    case "payout":
                        held_fen = await engine.pool.fetchval("SELECT balance_fen FROM accounts WHERE account_id = 4")
                        if held_fen:
                            await engine.pool.fetchval("SELECT move_money('payout', 4, 1, $1, 1)", held_fen)
            except (LimitExceededError, InsufficientFundsError):
                pass
            assert await engine.pool.fetchval("SELECT max(abs(balance_fen)) FROM accounts") <= FEN_MAX
        await caught_up(engine)
        await assert_books_balance(engine.pool)
        assert await engine.pool.fetchval("SELECT count(*) FROM quarantine") == 0


async def test_a_day_of_sendings_above_64_bits_leaves_no_room_in_a_limit(engine: Engine) -> None:
    await send(engine, "rich", total_fen=1_000, count=1, split=SplitKind.EQUAL)
    # What came back each time and was sent again, ten thousand times.
    query = """
        INSERT INTO packets SELECT (row).* FROM (
            SELECT jsonb_populate_record(packets, other) AS row
            FROM packets, generate_series(1, 10000) AS n,
                jsonb_build_object('packet_id', packet_id + n, 'total_fen', $1::bigint) AS other
        ) AS copies
    """
    await engine.pool.execute(query, MOST)
    await engine.profiles.put("rich", AccountKind.PERSON, (), {"day_sent_fen_max": FEN_MAX}, changed_by="root")
    with pytest.raises(LimitExceededError) as caught:
        await send(engine, "rich", total_fen=1, count=1)
    assert (caught.value.limit, caught.value.left_fen) == ("day_sent_fen_max", 0)
