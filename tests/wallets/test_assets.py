"""Assets besides money: made, issued, sent, claimed, told, and kept apart."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from uuid import uuid4

import asyncpg
import orjson
import pytest

from api.resources.receipt_page import page_of
from engine.auditing.audit import audit
from engine.auditing.comparison import Day
from engine.auditing.reconciliation import reconcile
from engine.calendar.china_time import today
from engine.disputes.filing import Complaint, DisputeKind
from engine.engine import Engine
from engine.errors import (
    AssetExistsError,
    FrozenError,
    IdempotencyKeyReusedError,
    InsufficientFundsError,
    InvalidFieldsError,
    LimitExceededError,
    UnknownAssetError,
)
from engine.packets.terms import terms_from
from engine.queries import load
from engine.records import FEN_MAX, Outcome, PacketState, SplitKind
from engine.settings import Settings
from engine.wallets import receipt_check
from engine.wallets.assets import Holding, Known
from engine.wallets.payouts import SandboxPayouts
from engine.wallets.receipts import as_json, hash_of
from engine.wallets.wallets import Wallet
from tests.support.days import whole_day
from tests.support.scenes import (
    assert_books_balance,
    caught_up,
    changed,
    fund,
    let_time_run_out,
    persisting,
    send,
    settled,
    sweeping,
)
from tests.support.waiting import wait_until


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    async with Engine.open(settings) as engine:
        yield engine


async def issue(engine: Engine, user_id: str, amount: int, asset: str = "POINTS", scale: int = 0) -> Known:
    """Give a user some of an asset, which is made if there is none."""
    await engine.assets.define(asset, scale=scale, name=asset.lower())
    known = await engine.assets.named(asset)
    await engine.assets.issue(user_id, amount, known, idempotency_key=uuid4().hex, request_hash=b"issue")
    return known


async def send_of(engine: Engine, asset: str, sender: str = "shop", total: int = 100, count: int = 10) -> str:
    """A packet of an asset that its sender has."""
    terms = terms_from(settings=engine.settings, total_fen=total, count=count, split=SplitKind.LUCKY, asset=asset)
    sent = await engine.packets.send(sender, terms, idempotency_key=uuid4().hex, request_hash=b"send")
    assert sent.state is PacketState.OPEN
    return sent.packet_id


async def test_it_is_made_once_and_never_changes(engine: Engine) -> None:
    made = await engine.assets.define("POINTS", scale=1, name="积分")
    assert (made.asset, made.scale, made.name, made.issued_fen) == ("POINTS", 1, "积分", 0)
    assert await engine.assets.define("POINTS", scale=1, name="积分") == made
    for scale, name in ((0, "积分"), (1, "points")):
        with pytest.raises(AssetExistsError):
            await engine.assets.define("POINTS", scale=scale, name=name)
    with pytest.raises(AssetExistsError):
        await engine.assets.define(engine.settings.currency, scale=2, name="yuan")
    with pytest.raises(UnknownAssetError):
        await engine.assets.get("MILES")
    with pytest.raises(asyncpg.PostgresError, match="never changed"):
        await engine.pool.execute("UPDATE assets SET scale = 0")


async def test_assets_are_listed_by_their_codes(engine: Engine) -> None:
    for asset in ("CUPS", "APPLES", "BEANS"):
        await engine.assets.define(asset, scale=0, name=asset)
    page = await engine.assets.page(after=None, limit=2)
    assert ([asset.asset for asset in page.assets], page.next) == (["APPLES", "BEANS"], "BEANS")
    page = await engine.assets.page(after=page.next, limit=2)
    assert ([asset.asset for asset in page.assets], page.next) == (["CUPS"], None)
    with pytest.raises(InvalidFieldsError):
        await engine.assets.page(after="beans", limit=2)


async def test_what_is_issued_is_told_of_the_user_and_of_the_asset(engine: Engine) -> None:
    points, beans = await issue(engine, "ada", 7), await issue(engine, "ada", 5, "BEANS", scale=3)
    await issue(engine, "bob", 3)
    assert await engine.wallets.get("ada", points) == Wallet(user_id="ada", balance_fen=7, currency="POINTS", scale=0)
    assert await engine.wallets.get("ada", beans) == Wallet(user_id="ada", balance_fen=5, currency="BEANS", scale=3)
    assert await engine.wallets.get("ada") == Wallet(user_id="ada", balance_fen=0, currency="CNY", scale=2)
    held = await engine.assets.holdings("ada", after=None, limit=10)
    assert held.holdings == [
        Holding(asset="BEANS", scale=3, name="beans", balance_fen=5),
        Holding(asset="POINTS", scale=0, name="points", balance_fen=7),
    ]
    assert (await engine.assets.get("POINTS")).issued_fen == 10
    await assert_books_balance(engine.pool)


async def test_an_issue_is_made_once_per_key(engine: Engine) -> None:
    points = await issue(engine, "ada", 1)
    first = await engine.assets.issue("ada", 5, points, idempotency_key="k", request_hash=b"a")
    again = await engine.assets.issue("ada", 5, points, idempotency_key="k", request_hash=b"a")
    assert (first.balance_fen, first.replayed, again.replayed) == (6, False, True)
    assert again.transfer_id == first.transfer_id
    with pytest.raises(IdempotencyKeyReusedError):
        await engine.assets.issue("ada", 6, points, idempotency_key="k", request_hash=b"b")
    assert (await engine.wallets.get("ada", points)).balance_fen == 6


async def test_no_more_is_held_than_json_can_tell(engine: Engine) -> None:
    points = await issue(engine, "ada", FEN_MAX - 1)
    with pytest.raises(LimitExceededError) as caught:
        await issue(engine, "bob", 2)
    assert (caught.value.field, caught.value.left_fen) == ("amount_fen", 1)
    await issue(engine, "bob", 1)
    assert (await engine.wallets.get("bob", points)).balance_fen == 1
    for amount in (0, FEN_MAX + 1):
        with pytest.raises(InvalidFieldsError):
            await issue(engine, "bob", amount)


async def test_an_unknown_asset_is_named(engine: Engine) -> None:
    for asset in ("MILES", "miles", "M", "A" * 33):
        with pytest.raises(InvalidFieldsError) as caught:
            await engine.assets.named(asset)
        assert [problem.field for problem in caught.value.problems] == ["asset"]
    assert await engine.assets.named("CNY") == await engine.assets.named(None) == Known("CNY", 2)


async def test_a_packet_of_an_asset_is_paid_with_it_and_claimed_as_it(engine: Engine, settings: Settings) -> None:
    points = await issue(engine, "shop", 100)
    await fund(engine, "shop", 500)
    packet_id = await send_of(engine, "POINTS")
    async with persisting(settings), sweeping(settings):
        won = {}
        for number in range(4):
            result = await engine.claims.claim(packet_id, f"user{number}")
            assert result.outcome is Outcome.CLAIMED
            won[f"user{number}"] = result.amount_fen
        await caught_up(engine)
        for user, amount in won.items():
            assert (await engine.wallets.get(user, points)).balance_fen == amount
            assert (await engine.wallets.get(user)).balance_fen == 0
        view = await engine.views.packet(packet_id)
        assert (view.asset, view.scale, view.total_fen) == ("POINTS", 0, 100)
        await let_time_run_out(engine, packet_id)
        await settled(engine, packet_id)
    # What nobody claimed came back as what it was.
    assert (await engine.wallets.get("shop", points)).balance_fen == 100 - sum(won.values())
    assert (await engine.wallets.get("shop")).balance_fen == 500
    proof = await engine.views.proof(packet_id)
    assert (proof.asset, proof.scale) == ("POINTS", 0)
    await engine.redis.flushall()  # the ledger says the same of a packet that Redis has dropped
    for user, amount in won.items():
        assert await claims_in_ledger(engine.pool, [(packet_id, user)]) == [amount]
    await assert_books_balance(engine.pool)


async def claims_in_ledger(pool: asyncpg.Pool, asked: list[tuple[str, str]]) -> list[int | None]:
    """What the query for packets that Redis has dropped finds."""
    packets, users = [int(packet_id) for packet_id, _ in asked], [user for _, user in asked]
    return [row["amount_fen"] for row in await pool.fetch(load("claims")["claims_of"], packets, users)]


async def test_one_batch_has_packets_of_several_assets(engine: Engine, settings: Settings) -> None:
    """The same users claim money, points and beans. Each goes where it belongs, by a persister that starts late."""
    points, beans = await issue(engine, "shop", 60), await issue(engine, "shop", 50, "BEANS", scale=2)
    packets = {
        points: await send_of(engine, "POINTS", total=60, count=3),
        beans: await send_of(engine, "BEANS", total=50, count=3),
        await engine.assets.named(None): (await send(engine, "shop", total_fen=40, count=3)).packet_id,
    }
    won = {}
    for user in ("ada", "bob", "eve"):
        for known, packet_id in packets.items():
            won[user, known] = (await engine.claims.claim(packet_id, user)).amount_fen
    async with persisting(settings):
        await caught_up(engine)
    assert {key: (await engine.wallets.get(*key)).balance_fen for key in won} == won
    assert await audited(engine) == []
    await assert_books_balance(engine.pool)


async def audited(engine: Engine) -> list[str]:
    findings = await audit(engine.pool, engine.store, engine.stream)
    return [problem for finding in findings for problem in finding.problems]


async def test_a_sender_pays_with_what_they_have_of_it(engine: Engine) -> None:
    await issue(engine, "shop", 99)
    await fund(engine, "shop", 1_000)
    await fund(engine, "ada", 1_000)
    for sender in ("shop", "ada", "nobody"):
        with pytest.raises(InsufficientFundsError):
            await send_of(engine, "POINTS", sender=sender)
    await send_of(engine, "POINTS", total=99, count=9)


async def test_bounds_on_money_do_not_bind_other_assets(settings: Settings) -> None:
    bounded = changed(settings, share_fen_max=5, person_day_sent_fen_max=10, freeze_large_fen=11, alert_large_fen=11)
    async with Engine.open(bounded) as engine:
        points = await issue(engine, "shop", 1_000)
        for _ in range(2):
            await send_of(engine, "POINTS", total=500, count=2)
        assert (await engine.wallets.get("shop", points)).balance_fen == 0
        assert (await engine.alerts.page(after=None, limit=10)).alerts == []
        await send(engine, "shop", total_fen=10, count=2)  # and what was sent of them is no money that was sent
        with pytest.raises(LimitExceededError):
            await send(engine, "shop", total_fen=2, count=1)


async def test_a_frozen_user_sends_no_asset(engine: Engine) -> None:
    await issue(engine, "shop", 100)
    await engine.freezes.freeze("shop", reason="looked into", frozen_by="root")
    with pytest.raises(FrozenError):
        await send_of(engine, "POINTS")


async def test_a_packet_of_an_asset_is_taken_back_as_it(engine: Engine, settings: Settings) -> None:
    points = await issue(engine, "shop", 100_000)
    packet_id = await send_of(engine, "POINTS", total=100_000)
    async with persisting(settings):
        assert await engine.retractions.retract(packet_id, "shop", confirmed=False) == 100_000
        await caught_up(engine)
    assert (await engine.wallets.get("shop", points)).balance_fen == 100_000


async def test_points_are_transferred_to_one_person(engine: Engine, settings: Settings) -> None:
    points = await issue(engine, "ada", 5)
    key = uuid4().hex
    sent, _ = await engine.transfers.send(
        "ada", "bob", 5, arrives_after_s=7_200, asset="POINTS", idempotency_key=key, request_hash=b"t"
    )
    assert (await engine.wallets.get("ada", points)).balance_fen == 0  # bob has not got them yet
    async with persisting(settings):
        await engine.transfers.cancel(sent.transfer_id, "ada")
        await caught_up(engine)
    assert (await engine.wallets.get("ada", points)).balance_fen == 5


async def test_only_money_is_disputed(engine: Engine, settings: Settings) -> None:
    await issue(engine, "shop", 100)
    packet_id = await send_of(engine, "POINTS")
    created_at_ms = (await engine.views.packet(packet_id)).created_at_ms
    complaint = Complaint(DisputeKind.SYSTEM_FAULT, packet_id, created_at_ms, None, ("nothing came",))
    with pytest.raises(InvalidFieldsError, match="number"):
        await engine.disputes.file("shop", complaint)


async def test_lists_are_of_one_asset(engine: Engine, settings: Settings) -> None:
    await issue(engine, "shop", 100)
    of_points = await send_of(engine, "POINTS")
    of_money = (await send(engine, "shop", total_fen=10, count=2)).packet_id
    async with persisting(settings):
        for packet_id in (of_points, of_money):
            await engine.claims.claim(packet_id, "ada")
        await caught_up(engine)
    for asset, packet_id, first in (("POINTS", of_points, "issue"), (None, of_money, "deposit")):
        for user, role in (("shop", "sent"), ("ada", "received")):
            listed = await engine.views.records(user, role=role, after=None, limit=10, asset=asset)
            assert [packet.packet_id for packet in listed.packets] == [packet_id]
        paid = await engine.wallets.transfers("shop", after=None, limit=10, asset=asset)
        assert [entry.kind for entry in paid.transfers] == ["send", first]
        got = await engine.wallets.transfers("ada", after=None, limit=10, asset=asset)
        assert [(entry.kind, entry.packet_id) for entry in got.transfers] == [("claim", packet_id)]


async def test_bills_and_receipts_count_in_it(engine: Engine, settings: Settings) -> None:
    await whole_day()  # the bill is of today
    beans = await issue(engine, "shop", 12_345, "BEANS", scale=3)
    packet_id = await send_of(engine, "BEANS", total=12_345, count=1)
    async with persisting(settings):
        await engine.claims.claim(packet_id, "ada")
        await settled(engine, packet_id)
    statement = await engine.statements.of("ada", today(), today(), beans)
    text = b"".join([part async for part in statement.as_csv()]).decode("utf-8-sig")
    assert statement.file_name == f"statement_ada_BEANS_{today()}_{today()}_provisional.csv"
    assert "收支金额(BEANS)" in text
    assert "`12.345,`12.345" in text
    assert "元" not in text
    for user in ("shop", "ada"):
        receipt = await engine.receipts.of(packet_id, user, sees_all=False)
        assert (receipt.facts.currency, receipt.facts.scale) == ("BEANS", 3)
        page = page_of(receipt).decode()
        assert "12.345" in page
        assert "123.45" not in page
        assert "元" not in page
        shown = receipt_check.read(orjson.dumps(receipt))
        assert await in_ledger(engine, shown) == []
        facts = as_json(receipt.facts)
        for facts["scale"] in (2, 0):  # it would say that ten times, or a thousand times, as much was moved
            shown = receipt_check.read(orjson.dumps({"facts": facts, "hash": hash_of(facts)}))
            assert await in_ledger(engine, shown) == [f"scale is {facts['scale']} in the receipt, 3 in the ledger"]
        del facts["scale"]
        shown = receipt_check.read(orjson.dumps({"facts": facts, "hash": hash_of(facts)}))
        assert await in_ledger(engine, shown) == ["scale is 3 in the ledger, and the receipt does not have it"]


async def in_ledger(engine: Engine, shown: receipt_check.Shown) -> list[str]:
    """What the ledger says against a receipt."""
    async with engine.pool.acquire() as connection:
        return await receipt_check.check(connection, shown)


async def test_nothing_moves_between_two_assets(engine: Engine) -> None:
    points, beans = await issue(engine, "ada", 5), await issue(engine, "ada", 5, "BEANS")
    accounts = "SELECT account_id FROM accounts WHERE kind = 'holding' AND owner = 'ada' AND asset = $1"
    payer, payee = [await engine.pool.fetchval(accounts, known.code) for known in (points, beans)]
    for other in (payee, await engine.pool.fetchval("SELECT account_id FROM accounts WHERE kind = 'wallet'")):
        with pytest.raises(asyncpg.RaiseError, match="two assets"):
            await engine.pool.fetchval("SELECT move_money('correction', $1, $2, 1, 0)", payer, other)
    for change in (
        "UPDATE accounts SET asset = NULL WHERE kind = 'holding'",
        "UPDATE accounts SET asset = 'POINTS' WHERE kind = 'bank'",
        "UPDATE accounts SET balance_fen = -1 WHERE kind = 'holding'",
        "UPDATE accounts SET balance_fen = -9007199254740992 WHERE kind = 'issuer'",
        "UPDATE accounts SET asset = 'MILES' WHERE kind = 'holding'",
    ):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await engine.pool.execute(change)


async def test_the_audit_finds_what_went_between_two_assets(engine: Engine, settings: Settings) -> None:
    await issue(engine, "ada", 500)
    await issue(engine, "shop", 100)
    packet_id = await send_of(engine, "POINTS")
    async with persisting(settings):
        await engine.claims.claim(packet_id, "ada")
        await caught_up(engine)
    assert await audited(engine) == []
    # Points of ada's become money of ada's.
    await engine.pool.execute(
        """
        WITH moved AS (
            INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms)
            SELECT 'correction', points.account_id, money.account_id, 5, 0 FROM accounts AS points, accounts AS money
            WHERE points.kind = 'holding' AND points.owner = 'ada' AND money.kind = 'wallet' AND money.owner = 'ada'
            RETURNING from_account, to_account
        )
        UPDATE accounts SET balance_fen = balance_fen + CASE WHEN account_id = to_account THEN 5 ELSE -5 END
        FROM moved WHERE account_id IN (from_account, to_account)
        """
    )
    problems = await audited(engine)
    assert "all balances sum to 5 fen" in problems
    assert "all balances of POINTS sum to -5" in problems
    assert any("a correction, goes from POINTS to the currency" in problem for problem in problems)
    await engine.pool.execute("UPDATE packets SET asset = NULL")
    assert f"packet {packet_id}: it promises the currency, its custody is of POINTS" in await audited(engine)


async def test_a_day_is_reconciled_by_asset(engine: Engine, settings: Settings) -> None:
    day = await whole_day()
    await issue(engine, "shop", 100)
    await fund(engine, "shop", 7)
    packet_id = await send_of(engine, "POINTS")
    async with persisting(settings), sweeping(settings):
        await engine.claims.claim(packet_id, "ada")
        await let_time_run_out(engine, packet_id)
        await settled(engine, packet_id)
    provider = SandboxPayouts(engine.pool, settings)
    found = await reconcile(engine.pool, engine.store, engine.stream, provider, Day.of(day))
    assert [comparison.differences for comparison in found if not comparison.agrees] == []
    told = {comparison.name: (comparison.left.count, comparison.left.fen) for comparison in found}
    won = (await engine.wallets.get("ada", await engine.assets.named("POINTS"))).balance_fen
    assert told["issue: ledger, POINTS"] == told["send: ledger, POINTS"] == told["sends: packets, POINTS"] == (1, 100)
    assert told["claim: ledger, POINTS"] == told["claim in: statements, POINTS"] == (1, won)
    assert told["endings: packets, POINTS"] == (1, 100 - won)
    assert told["sends: packets"] == (0, 0)
    assert told["deposit: ledger"] == told["deposit in: statements"] == (1, 7)


async def test_two_issues_and_a_lanes_batch_do_not_wait_for_each_other(engine: Engine) -> None:
    """The batch locks an older holding and then a younger wallet; one issue needs the one, another the other."""
    await issue(engine, "old", 5)
    await fund(engine, "new", 5)
    held = await engine.pool.fetchval("SELECT account_id FROM accounts WHERE kind = 'holding' AND owner = 'old'")
    wallet = await engine.pool.fetchval("SELECT account_id FROM accounts WHERE kind = 'wallet' AND owner = 'new'")
    assert held < wallet
    async with asyncio.TaskGroup() as group, engine.pool.acquire() as batch, batch.transaction():
        await batch.execute("SELECT FROM accounts WHERE account_id = $1 FOR UPDATE", held)
        for waiting, user in enumerate(("old", "new"), start=1):
            group.create_task(issue(engine, user, 1))
            await wait_until(partial(_are_waiting, engine, waiting), what="its wait")
        await batch.execute("SELECT FROM accounts WHERE account_id = $1 FOR UPDATE", wallet)
    assert (await engine.assets.get("POINTS")).issued_fen == 7


async def _are_waiting(engine: Engine, count: int) -> bool:
    asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return bool(await engine.pool.fetchval(asked) >= count)
