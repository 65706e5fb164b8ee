"""A day is reconciled: it agrees, also while the engine is busy, and each kind of difference is named."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pytest

from engine.auditing.comparison import DIFFERENCES_MAX, Comparison, Day, Differences, Side
from engine.auditing.reconciliation import reconcile
from engine.calendar.china_time import today
from engine.engine import Engine
from engine.lanes import keys
from engine.lanes.clients import command
from engine.records import SplitKind
from engine.settings import Settings
from engine.wallets.payouts import PayoutOrder, SandboxPayouts, reference_of
from engine.wallets.statement import SQL as STATEMENT_SQL
from tests.support.commands import hongbao
from tests.support.days import whole_day
from tests.support.scenes import caught_up, fund, let_time_run_out, persisting, send, settled, sweeping

BANK_ACCOUNT = "6222020000001234"


@dataclass(frozen=True, slots=True)
class Scene:
    """A day with packets of each end, one of them open with a claim, and withdrawals."""

    engine: Engine
    settings: Settings
    provider: SandboxPayouts
    open: str
    day: date

    async def comparisons(self, *, days_later: int = 0) -> dict[str, Comparison]:
        engine, day = self.engine, Day.of(self.day + timedelta(days=days_later))
        found = await reconcile(engine.pool, engine.store, engine.stream, self.provider, day)
        assert len({comparison.name for comparison in found}) == len(found)
        return {comparison.name: comparison for comparison in found}

    async def differing(self, *, days_later: int = 0) -> dict[str, tuple[str, ...]]:
        """What differs, by comparison."""
        found = (await self.comparisons(days_later=days_later)).values()
        return {comparison.name: comparison.differences for comparison in found if not comparison.agrees}

    async def change(self, *statements: str) -> None:
        """Do to the ledger what it refuses."""
        async with self.engine.pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL session_replication_role = replica")  # no triggers
            for statement in statements:
                await connection.execute(statement)

    async def withdraw(self, user: str, amount_fen: int, *, ordered: bool = True, asked_before_ms: int = 0) -> str:
        """A withdrawal that is processed, and its payout; its reference."""
        query = """
            WITH clock AS (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - $4 AS at_ms)
            INSERT INTO withdrawals (user_id, amount_fen, fee_fen, free_fen, bank_account, transfer_id, asked_at_ms)
            SELECT $1, $2, 0, 0, $3,
                (SELECT move_money('withdrawal', account_id, 4, $2, at_ms) FROM accounts WHERE owner = $1), at_ms
            FROM clock RETURNING withdrawal_id, asked_at_ms
        """
        row = await self.engine.pool.fetchrow(query, user, amount_fen, BANK_ACCOUNT, asked_before_ms)
        assert row is not None
        reference = reference_of(*row)
        if ordered:
            await self.provider.submit(PayoutOrder(reference, amount_fen, BANK_ACCOUNT, row["asked_at_ms"]))
        return reference


@pytest.fixture
async def scene(settings: Settings) -> AsyncIterator[Scene]:
    day = await whole_day()
    async with Engine.open(settings) as engine, persisting(settings), sweeping(settings):
        exhausted = (await send(engine, total_fen=30, count=3, split=SplitKind.EQUAL)).packet_id
        expired = (await send(engine, total_fen=500, count=5, split=SplitKind.EQUAL)).packet_id
        still_open = (await send(engine, total_fen=900, count=9, split=SplitKind.EQUAL)).packet_id
        for packet_id in (exhausted, expired, still_open):
            for user in ("bob", "carol", "dave"):
                await engine.claims.claim(packet_id, user)
        await let_time_run_out(engine, expired)
        await settled(engine, exhausted, expired)
        await caught_up(engine)
    async with Engine.open(settings) as engine:
        scene = Scene(engine, settings, SandboxPayouts(engine.pool, settings), still_open, day)
        await scene.withdraw("bob", 40)
        yield scene


async def test_a_clean_day_agrees(scene: Scene) -> None:
    found = await scene.comparisons()
    assert {name: comparison.differences for name, comparison in found.items() if not comparison.agrees} == {}
    told = {name: (one.left.count, one.left.fen, one.right.count, one.right.fen) for name, one in found.items()}
    # What ended a while ago is in Redis still.
    assert told["claims: Redis"] == (9, 630, 9, 630)
    assert told["claims: events"] == (9, None, 9, None)
    assert told["refunds: events"] == (1, None, 1, None)
    assert told["sends: packets"] == (3, 1_430, 3, 1_430)
    assert told["endings: packets"] == (1, 200, 1, 200)
    assert told["claim: ledger"] == (9, 630, 9, 630)
    assert told["claim in: statements"] == (9, 630, 9, 630)
    assert told["send out: statements"] == (3, 1_430, 3, 1_430)
    assert told["withdrawals: payouts"] == (1, 40, 1, 40)
    assert found["claims: Redis"].difference_count == 0
    assert found["claims: events"].difference_fen is None


async def test_another_day_has_nothing(scene: Scene) -> None:
    for days in (-40, 1):
        found = await scene.comparisons(days_later=days)
        assert {(one.left.count, one.right.count, one.agrees) for one in found.values()} == {(0, 0, True)}


async def test_a_claim_that_waits_in_the_stream_is_on_its_way(scene: Scene) -> None:
    await scene.engine.claims.claim(scene.open, "erin")
    found = await scene.comparisons()
    assert {one.name for one in found.values() if not one.agrees} == set()
    assert (found["claims: Redis"].left.count, found["claim: ledger"].left.count) == (10, 9)


async def test_a_claim_of_redis_that_nothing_else_has(scene: Scene) -> None:
    at_ms = await scene.engine.store.now_ms(0)
    await command(scene.engine.redis, "HSET", keys.claims(scene.open), "ghost", f"8:100:{at_ms}")
    assert await scene.differing() == {
        "claims: Redis": (
            f"packet {scene.open}: Redis gave ghost 100 fen (share 8); neither the stream nor the ledger has it",
        )
    }


async def test_a_claim_that_redis_has_lost_or_has_otherwise(scene: Scene) -> None:
    await command(scene.engine.redis, "HDEL", keys.claims(scene.open), "bob")
    row = await command(scene.engine.redis, "HGET", keys.claims(scene.open), "carol")
    slot, _, at_ms = row.decode().split(":")
    await command(scene.engine.redis, "HSET", keys.claims(scene.open), "carol", f"{slot}:77:{at_ms}")
    (told,) = (await scene.differing()).values()
    assert {difference.partition(": ")[2] for difference in told} == {
        "the ledger gave bob 100 fen (share 0), Redis did not",
        f"the ledger gave carol 100 fen (share {slot}), Redis did not",
    }


async def test_a_claim_that_was_removed_from_the_ledger(scene: Scene) -> None:
    query = "DELETE FROM transfers WHERE kind = 'claim' AND from_account = {} AND slot = 0"
    await scene.change(query.format(scene.open))
    differing = await scene.differing()
    assert "neither the stream nor the ledger" in differing["claims: Redis"][0]
    assert "claims were applied, the ledger holds" in differing["claims: events"][0]
    assert {"balances: ledger"} <= differing.keys()
    told = " ".join(differing["balances: ledger"])
    assert "of bob holds" in told


async def test_a_refund_that_was_removed(scene: Scene) -> None:
    await scene.change("DELETE FROM transfers WHERE kind = 'refund'")
    differing = await scene.differing()
    assert differing.keys() == {"refunds: events", "endings: packets", "balances: ledger"}
    assert differing["endings: packets"][0].endswith("200 fen due, nothing moved")
    assert "1 refunds were applied, the ledger holds 0" in differing["refunds: events"][0]


async def test_a_payment_that_is_not_the_packets_total(scene: Scene) -> None:
    await scene.change(f"UPDATE packets SET total_fen = 901 WHERE packet_id = {scene.open}")
    assert await scene.differing() == {"sends: packets": (f"packet {scene.open}: 901 fen due, 900 fen moved",)}


async def test_a_transfer_to_an_account_that_is_not_there(scene: Scene) -> None:
    await scene.change(
        "INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms) "
        "SELECT 'deposit', 1, 999, 5, max(at_ms) FROM transfers"
    )
    differing = await scene.differing()
    assert differing.keys() == {"deposit: ledger", "balances: ledger"}
    assert differing["deposit: ledger"][0].endswith("goes from bank 1 to account 999, which does not exist,")
    assert any(told.startswith("account 999 does not exist") for told in differing["balances: ledger"])


async def test_a_balance_that_was_changed(scene: Scene) -> None:
    await scene.change("UPDATE accounts SET balance_fen = balance_fen + 7 WHERE owner = 'dave'")
    ((name, (told,)),) = (await scene.differing()).items()
    assert name == "balances: ledger"
    assert told.endswith("of dave holds 217 fen, its entries sum to 210")


async def test_a_statement_that_leaves_something_out(scene: Scene) -> None:
    """A movement that statements do not show: out of a wallet, called a claim."""
    await scene.change(
        "INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms, slot, position) "
        "SELECT 'claim', account_id, 3, 5, (SELECT max(at_ms) FROM transfers), 0, 1 FROM accounts WHERE owner = 'dave'"
    )
    differing = await scene.differing()
    assert differing["claim out: statements"] == (
        "claim out of wallets: 0 of 0 fen in the statements, 1 of 5 fen in the ledger",
    )
    assert "claim: ledger" in differing


async def test_a_statement_that_does_not_close(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    short = STATEMENT_SQL["movements"].replace("transfer_id < $3", "transfer_id < $3 AND amount_fen <> 10")
    monkeypatch.setitem(STATEMENT_SQL, "movements", short)
    differing = await scene.differing()
    assert differing.keys() == {"statements close", "claim in: statements"}
    assert len(differing["statements close"]) == 3


async def test_an_entry_that_was_booked_after_midnight_with_a_time_from_before_it(scene: Scene) -> None:
    """It is behind an entry of the new day, so it is in the new day's statement; a reconciliation cuts them alike."""
    begins_ms = Day.of(scene.day).first_ms
    await fund(scene.engine, "dave", 100)
    last = await scene.engine.pool.fetchval("SELECT max(transfer_id) FROM transfers")
    await scene.change(f"UPDATE transfers SET at_ms = {begins_ms - 1} WHERE transfer_id = {last}")
    for days_later in (-1, 0):
        comparisons = await scene.comparisons(days_later=days_later)
        assert comparisons["statements close"].agrees
        told = [one for name, one in comparisons.items() if name.endswith(": statements")]
        assert [one.differences for one in told] == [()] * len(told)
        deposits = comparisons.get("deposit in: statements")
        assert (deposits is None) == (days_later == -1)
    assert deposits is not None
    assert deposits.left.count == await scene.engine.pool.fetchval(
        "SELECT count(*) FROM transfers WHERE kind = 'deposit'"
    )


async def test_payouts_that_differ(scene: Scene) -> None:
    await fund(scene.engine, "carol", 1_000)
    amount, account, unknown, reported = [await scene.withdraw("carol", 100) for _ in range(4)]
    change = "UPDATE sandbox_payouts SET {} WHERE reference = '{}'"
    await scene.change(
        change.format("amount_fen = 90", amount),
        change.format("bank_account = '1'", account),
        f"DELETE FROM sandbox_payouts WHERE reference = '{unknown}'",
        change.format("state = 'failed', failure = 'x'", reported),
        # What is settled here without a payout, and against what the provider says.
        *(
            "UPDATE withdrawals SET state = 'settled', end_transfer_id = transfer_id, ended_at_ms = asked_at_ms WHERE "
            f"withdrawal_id = {reference.rpartition('-')[2]}"
            for reference in (unknown, reported)
        ),
        "INSERT INTO sandbox_payouts (reference, amount_fen, bank_account, state, asked_at_ms, ends_at_ms) "
        "SELECT 'strange', 7, '1', 'settled', asked_at_ms, asked_at_ms FROM withdrawals LIMIT 1",
    )
    found = (await scene.comparisons())["withdrawals: payouts"]
    told = sorted(difference.rpartition(": ")[2] for difference in found.differences)
    assert told == [
        "it is settled, and no payout was ordered",
        "it is settled, the provider says failed",
        "no withdrawal of the day has it",
        "the provider has 90 fen",
        "the provider pays to another bank account",
    ]
    assert (found.left.count, found.right.count) == (5, 5)


async def test_a_withdrawal_may_wait_for_its_payout_for_a_while(scene: Scene) -> None:
    await fund(scene.engine, "carol", 1_000)
    await scene.withdraw("carol", 100, ordered=False)
    assert (await scene.comparisons())["withdrawals: payouts"].agrees
    await scene.withdraw("carol", 100, ordered=False, asked_before_ms=86_400_000)
    (told,) = (await scene.comparisons(days_later=-1))["withdrawals: payouts"].differences
    assert told.endswith("it is processing, and no payout was ordered")


@pytest.mark.long
async def test_a_busy_engine_raises_no_alarm(settings: Settings) -> None:
    day = today()  # the next may begin meanwhile, and agrees as well
    async with Engine.open(settings) as engine, persisting(settings), sweeping(settings):
        scene = Scene(engine, settings, SandboxPayouts(engine.pool, settings), "", day)
        stop = asyncio.Event()

        rounds = 0

        async def storm() -> None:
            nonlocal rounds
            while not stop.is_set():
                packet_id = (await send(engine, total_fen=400, count=20)).packet_id
                users = [f"user{number}" for number in range(30)]
                await asyncio.gather(*(engine.claims.claim(packet_id, user) for user in users[: 10 + rounds % 20]))
                await let_time_run_out(engine, packet_id)
                rounds += 1

        task = asyncio.create_task(storm())
        try:
            looks = 0
            while looks < 15 or rounds <= 10:  # how fast the one is beside the other is the machine's
                assert not task.done()
                assert [await scene.differing(days_later=later) for later in (0, 1)] == [{}, {}]
                looks += 1
        finally:
            stop.set()
            await task
        await caught_up(engine)
        assert [await scene.differing(days_later=later) for later in (0, 1)] == [{}, {}]


def test_what_is_told_is_bounded() -> None:
    side = Side(what="x")
    found = Differences(f"difference {number}" for number in range(DIFFERENCES_MAX + 5)).of("name", side, side)
    assert (len(found.differences), found.more, found.agrees) == (DIFFERENCES_MAX, 5, False)
    (told,) = Differences().of("name", Side(what="x", count=1, fen=1), Side(what="y", count=1, fen=2)).differences
    assert told == "x and y differ in sum, but no single item does"
    assert Differences().of("name", Side(what="x", fen=None), Side(what="y", fen=3)).agrees


@pytest.mark.long
async def test_the_command_prints_a_table(scene: Scene, tmp_path: Path) -> None:
    left = tmp_path / "left.prom"
    urls = urls_of(scene)
    day = scene.day.isoformat()
    done = hongbao("reconcile", "--day", day, "--provisional", **urls)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Nothing differs on {day}." in done.stdout
    assert f"{day} is not closed: this is provisional." in done.stdout
    assert next(line for line in done.stdout.splitlines() if line.startswith("claims: Redis")).split()[-6:] == [
        *("9", "630", "9", "630", "0", "0"),
    ]
    await scene.change("UPDATE accounts SET balance_fen = balance_fen + 7 WHERE owner = 'dave'")
    done = hongbao("reconcile", "--day", day, "--provisional", **urls)
    assert done.returncode == 1
    assert "of dave holds 217 fen, its entries sum to 210" in done.stdout
    # Of yesterday, which is closed.
    await scene.change(
        "UPDATE transfers SET at_ms = at_ms - 86400000 FROM accounts WHERE account_id = to_account AND owner = 'dave' "
        "AND transfers.kind = 'claim'"
    )
    done = hongbao("reconcile", "--json", "--textfile", left, **urls)
    assert done.returncode == 1
    assert 'hongbao_reconciliation_differences{comparison="balances: ledger"} 1.0' in left.read_text(encoding="utf-8")
    told = json.loads(done.stdout)
    assert (told["day"], told["provisional"]) == (f"{scene.day - timedelta(days=1)}", False)
    assert "balances: ledger" in [one["name"] for one in told["comparisons"] if not one["agrees"]]
    refused = hongbao("reconcile", "--textfile", tmp_path / "no" / "folder", **urls)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    # The day before, on which there was nothing.
    assert hongbao("reconcile", "--day", f"{scene.day - timedelta(days=2)}", **urls).returncode == 0


def urls_of(scene: Scene) -> dict[str, str]:
    return {
        "HONGBAO_REDIS_URL": str(scene.settings.redis_url),
        "HONGBAO_DATABASE_URL": str(scene.settings.database_url),
        "HONGBAO_LANES": "2",
    }


async def test_a_day_that_is_not_closed_is_refused(scene: Scene, tmp_path: Path) -> None:
    """It would agree now, and have other sums later."""
    left, urls = tmp_path / "left.prom", urls_of(scene)
    for words in ((), ("--json",), ("--textfile", left)):
        done = hongbao("reconcile", "--day", f"{scene.day}", *words, **urls)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"hongbao: {scene.day} is not over.\n")
    done = hongbao("reconcile", "--day", f"{scene.day}", "--provisional", "--textfile", left, **urls)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert not left.exists()


@pytest.mark.parametrize("day", ["2026-02-30", "20261121", "today", "1999-01-01", "2999-01-01", ""])
def test_a_day_that_cannot_be_reconciled(day: str) -> None:
    done = hongbao("reconcile", "--day", day)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("hongbao: ")


def test_without_books_it_says_so(tmp_path: Path) -> None:
    done = hongbao("reconcile", "--data-dir", tmp_path / "none")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "There are no books" in done.stderr
