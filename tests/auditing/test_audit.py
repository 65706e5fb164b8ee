"""The audit finds nothing on sound books, also busy ones, and names each thing that is made wrong."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from uuid import uuid4

import pytest
import uvloop

from engine.auditing.audit import PROBLEMS_MAX, Finding, audit
from engine.engine import Engine
from engine.ids import lane_of
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.reader import READ_WHOLE_COUNT_MAX
from engine.operators.log import COMMAND_LINE, OK, OperatorLog
from engine.settings import Settings
from tests.support.administrator import Administrator
from tests.support.anchored import audited, clean
from tests.support.copies import Left
from tests.support.repository import ROOT
from tests.support.scenes import (
    caught_up,
    changed,
    claimed,
    fund,
    let_time_run_out,
    persisting,
    send,
    settled,
    sweeping,
)
from tests.support.waiting import wait_until
from tests.support.wrong_funds import FUNDS, raise_funds


@dataclass(frozen=True, slots=True)
class Scene:
    """An engine at rest whose ledger has everything: a packet that is gone, one half claimed, one that ran out.

    And of alice's withdrawals one that settled, one that failed, one that is processed; and of fundraisers one that is
    paid out, one returned, one open. All of it came after an anchor, on an open packet of hers.
    """

    engine: Engine
    exhausted: str
    open: str
    expired: str

    async def sql(self, *statements: str) -> None:
        """Change the ledger behind its back."""
        async with self.engine.pool.acquire() as connection:
            for statement in statements:
                await connection.execute(statement)

    async def redis(self, *words: str | int) -> None:
        """Change Redis behind the scripts' backs."""
        await command(self.engine.redis, *words)


@dataclass(frozen=True, slots=True)
class Made:
    """What a scene has left, and its packets."""

    left: Left
    exhausted: str
    open: str
    expired: str


@pytest.fixture(scope="module")
def made(shared_settings: Settings) -> Made:
    """The scene, made once. Its books are sound, so those of each copy are before something is made wrong."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(make_scene(shared_settings))


async def make_scene(settings: Settings) -> Made:
    async with Engine.open(settings) as engine:
        async with persisting(settings), sweeping(settings):
            await send(engine)
            await caught_up(engine)
            await clean(engine)
            exhausted = (await send(engine, count=5, total_fen=500)).packet_id
            half = (await send(engine, count=6, total_fen=600)).packet_id
            expired = (await send(engine, count=7, total_fen=700)).packet_id
            for packet_id, users in ((exhausted, 8), (half, 3), (expired, 2)):
                for number in range(users):
                    await engine.claims.claim(packet_id, f"user-{number}")
            await let_time_run_out(engine, expired)
            await withdraw(engine, "6222020200112233", "6222020200110000")
            await settled(engine, exhausted, expired)
            await caught_up(engine)
            await withdrawals_ended(engine)
            await raise_funds(engine)
        await withdraw(engine, "6222020200112233")
        assert broken(await run(engine)) == {}
    return Made(await Left.by(settings), exhausted, half, expired)


@pytest.fixture
async def scene(made: Made, administrator: Administrator) -> AsyncIterator[Scene]:
    async with made.left.copied(administrator) as settings, Engine.open(settings) as engine:
        yield Scene(engine, made.exhausted, made.open, made.expired)


async def withdraw(engine: Engine, *bank_accounts: str) -> None:
    """Have alice withdraw; those to accounts that end in 0000 fail."""
    if await engine.pool.fetchval("SELECT count(*) FROM payment_passwords") == 0:
        await engine.payment_passwords.put("alice", "135790", None)
    for account in bank_accounts:
        await fund(engine, "alice", 100_100)
        await engine.withdrawals.withdraw(
            "alice", 100_000, account, "135790", idempotency_key=uuid4().hex, request_hash=b"withdraw"
        )


async def withdrawals_ended(engine: Engine) -> None:
    async def none_is_left() -> bool:
        left: int = await engine.pool.fetchval("SELECT count(*) FROM withdrawals WHERE state = 'processing'")
        return left == 0

    await wait_until(none_is_left, timeout_s=10, what="the withdrawals' ending")


async def run(engine: Engine) -> dict[str, Finding]:
    findings = await audit(engine.pool, engine.store, engine.stream)
    return {finding.invariant: finding for finding in findings}


def broken(findings: dict[str, Finding]) -> dict[str, tuple[str, ...]]:
    return {name: finding.problems for name, finding in findings.items() if not finding.holds}


async def test_sound_books_pass_and_everything_is_examined(scene: Scene) -> None:
    findings = await run(scene.engine)
    assert broken(findings) == {}
    assert findings["packets_add_up"].examined == findings["redis_agrees"].examined == 4
    assert findings["no_slot_twice"].examined == findings["shares_as_split"].examined == 5 + 3 + 2
    assert findings["withdrawals_add_up"].examined == findings["fundraisers_add_up"].examined == 3


CHANGEABLE = "ALTER TABLE transfers DISABLE TRIGGER USER"
LOG_CHANGEABLE = "ALTER TABLE operator_log DISABLE TRIGGER USER"
Corruption = Callable[[Scene], Awaitable[None]]


async def make_money(scene: Scene) -> None:
    await scene.sql("UPDATE accounts SET balance_fen = balance_fen + 1 WHERE owner = 'user-0'")


async def move_without_transfer(scene: Scene) -> None:
    await scene.sql(
        "UPDATE accounts SET balance_fen = balance_fen + 1 WHERE owner = 'user-0'",
        "UPDATE accounts SET balance_fen = balance_fen - 1 WHERE owner = 'user-1'",
    )


async def pay_a_stranger(scene: Scene) -> None:
    await scene.sql(CHANGEABLE, "UPDATE transfers SET to_account = 999 WHERE kind = 'refund'")


async def forget_a_claim(scene: Scene) -> None:
    await scene.sql(CHANGEABLE, f"DELETE FROM transfers WHERE from_account = {scene.exhausted} AND slot = 2")


async def forget_a_payment(scene: Scene) -> None:
    await scene.sql(CHANGEABLE, f"DELETE FROM transfers WHERE kind = 'send' AND to_account = {scene.open}")


async def misstate_the_rest(scene: Scene) -> None:
    await scene.sql(f"UPDATE packets SET remaining_count = remaining_count + 1 WHERE packet_id = {scene.expired}")


async def keep_custody(scene: Scene) -> None:
    await scene.sql(
        f"UPDATE accounts SET balance_fen = 9 WHERE account_id = {scene.expired}",
        f"UPDATE packets SET settled_at_ms = NULL WHERE packet_id = {scene.expired}",
    )


async def give_a_user_two(scene: Scene) -> None:
    await scene.sql(
        CHANGEABLE,
        "DROP INDEX claim_once_per_user",
        "UPDATE transfers SET to_account = (SELECT account_id FROM accounts WHERE owner = 'user-0') "
        f"WHERE from_account = {scene.exhausted} AND slot = 3",
    )


async def give_a_share_twice(scene: Scene) -> None:
    await scene.sql(
        CHANGEABLE,
        "DROP INDEX claim_once_per_slot",
        f"UPDATE transfers SET slot = 1 WHERE from_account = {scene.exhausted} AND slot = 3",
    )


async def change_an_amount(scene: Scene) -> None:
    await scene.sql(
        CHANGEABLE,
        f"UPDATE transfers SET amount_fen = amount_fen + 1 WHERE from_account = {scene.open} AND slot = 0",
    )


async def change_the_seed(scene: Scene) -> None:
    await scene.sql(f"UPDATE packets SET seed = sha256('other') WHERE packet_id = {scene.open}")


async def lose_a_batch(scene: Scene) -> None:
    lane = lane_of(scene.exhausted)  # the first after the anchor
    after = f"(SELECT (lanes->'{lane}'->>'position')::bigint FROM audits)"
    await scene.sql(
        "ALTER TABLE batches DISABLE TRIGGER USER",
        f"DELETE FROM batches WHERE lane = {lane} AND position_before = {after}",
    )


async def move_the_checkpoint(scene: Scene) -> None:
    await scene.sql("UPDATE lanes SET position = position - 1 WHERE position > 0")


async def set_something_aside(scene: Scene) -> None:
    await scene.sql(
        "INSERT INTO quarantine (lane, position, packet_id, kind, at_ms, reason) "
        f"VALUES (0, 1, {scene.open}, 'claim', 0, 'a test')"
    )


async def take_from_the_payout_account(scene: Scene) -> None:
    await scene.sql("UPDATE accounts SET balance_fen = balance_fen - 1 WHERE account_id = 4")


async def settle_without_paying(scene: Scene) -> None:
    await scene.sql(
        "UPDATE withdrawals SET state = 'settled', ended_at_ms = 1, end_transfer_id = 0, fee_transfer_id = -1 "
        "WHERE state = 'processing'"
    )


async def call_a_settled_one_failed(scene: Scene) -> None:
    await scene.sql(
        "ALTER TABLE withdrawals DISABLE TRIGGER USER",
        "UPDATE withdrawals SET state = 'failed', failure = 'no', fee_transfer_id = NULL WHERE state = 'settled'",
    )


async def pay_another_amount(scene: Scene) -> None:
    await scene.sql(CHANGEABLE, "UPDATE transfers SET amount_fen = amount_fen + 1 WHERE kind = 'payout'")


async def keep_what_failed(scene: Scene) -> None:
    await scene.sql(CHANGEABLE, "DELETE FROM transfers WHERE kind = 'withdrawal_return'")


async def pay_for_no_withdrawal(scene: Scene) -> None:
    await scene.sql("SELECT move_money('payout', 4, 1, 7, 1)")


async def make_points_of_money(scene: Scene) -> None:
    await scene.engine.assets.define("POINTS", scale=0, name="points")
    issuer = "(SELECT issuer FROM assets)"
    entry = "INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms)"
    await scene.sql(f"{entry} SELECT 'deposit', 1, {issuer}, 7, 1")


async def give_a_coupon(scene: Scene) -> None:
    await scene.sql(
        "INSERT INTO coupons (batch_id, number, holder, packet_id, given_at_ms) "
        f"VALUES (1, 7, 'user-0', {scene.open}, 0)"
    )


async def leave_a_given_coupon_free(scene: Scene) -> None:
    await give_a_coupon(scene)
    await scene.sql("INSERT INTO coupon_free (batch_id, first_number, count) VALUES (1, 5, 5)")


async def lose_the_lane(scene: Scene) -> None:
    await scene.redis("DEL", keys.lane(lane_of(scene.open)))


async def change_the_epoch(scene: Scene) -> None:
    await scene.engine.store.fence(lane_of(scene.open))


async def set_the_lane_back(scene: Scene) -> None:
    await scene.redis("HINCRBY", keys.lane(lane_of(scene.open)), "position", -1)


async def trim_past_the_checkpoint(scene: Scene) -> None:
    # Nobody persists now: what is claimed waits in the stream, and is taken away there.
    await scene.engine.claims.claim(scene.open, "late-1")
    await scene.engine.claims.claim(scene.open, "late-2")
    await scene.redis("XTRIM", keys.events(lane_of(scene.open)), "MAXLEN", 1)


async def trim_everything(scene: Scene) -> None:
    await scene.engine.claims.claim(scene.open, "late-1")
    await scene.redis("XTRIM", keys.events(lane_of(scene.open)), "MAXLEN", 0)


async def make_a_set_of_cards(scene: Scene) -> None:
    await scene.sql(
        "INSERT INTO card_sets (owner, name, cards, pool_fen, split, min_fen, payout, grants_a_user_max, ends_at_ms,"
        " draws_at_ms, seed, commitment, pool_account, created_at_ms)"
        " VALUES ('alice', 'cards', 2, 5, 'equal', 1, 'at_once', 0, 1, 1, decode(repeat('00', 32), 'hex'), '', 2, 1)"
    )


async def lose_a_share(scene: Scene) -> None:
    await scene.redis("LPOP", keys.shares(scene.open))


async def double_a_share(scene: Scene) -> None:
    share = await command(scene.engine.redis, "LINDEX", keys.shares(scene.open), 0)
    await scene.redis("LSET", keys.shares(scene.open), 1, share)


async def forget_a_claim_in_redis(scene: Scene) -> None:
    await scene.redis("HDEL", keys.claims(scene.open), "user-1")


async def raise_a_claim_in_redis(scene: Scene) -> None:
    await scene.redis("HSET", keys.claims(scene.open), "user-1", "1:100000:1")


async def give_without_an_event(scene: Scene) -> None:
    share = await command(scene.engine.redis, "LPOP", keys.shares(scene.open))
    await scene.redis("HSET", keys.claims(scene.open), "ghost", f"{share.decode()}:1")
    await scene.redis("HINCRBY", keys.packet(scene.open), "remaining_count", -1)
    await scene.redis("HINCRBY", keys.packet(scene.open), "remaining_fen", -int(share.split(b":")[1]))


async def miscount_the_rest(scene: Scene) -> None:
    await scene.redis("HINCRBY", keys.packet(scene.open), "remaining_fen", 5)


async def lose_an_open_packet(scene: Scene) -> None:
    await scene.redis("DEL", keys.packet(scene.open))


async def change_a_reason(scene: Scene) -> None:
    log = OperatorLog(scene.engine.pool)
    for reason in ("a fraud", "a mistake"):
        await log.write(COMMAND_LINE, "a test", OK, reason=reason)
    await scene.sql(LOG_CHANGEABLE, "UPDATE operator_log SET reason = 'none' WHERE number = 1")


async def remove_a_row_of_the_log(scene: Scene) -> None:
    log = OperatorLog(scene.engine.pool)
    for _ in range(3):
        await log.write(COMMAND_LINE, "a test", OK)
    await scene.sql(LOG_CHANGEABLE, "DELETE FROM operator_log WHERE number = 2")


async def cut_the_log(scene: Scene) -> None:
    log = OperatorLog(scene.engine.pool)
    for _ in range(3):
        await log.write(COMMAND_LINE, "a test", OK)
    await scene.sql(LOG_CHANGEABLE, "DELETE FROM operator_log WHERE number = 3")


async def approve_past_the_log(scene: Scene) -> None:
    await scene.sql(
        "INSERT INTO approvals (action, subject_kind, subject_id, arguments, arguments_hash, reason, asked_by,"
        " asked_at_ms, expires_at_ms, state, decided_by, decided_at_ms)"
        " VALUES ('deposit', 'user', 'eve', '{}', '', '', 'ann', 1, 2, 'executed', 'bob', 1)"
    )


ELSEWHERE = "orders_have_packets"
"""Its corruptions are in test_orders_audit.py, with orders."""
CORRUPTIONS: list[tuple[str, Corruption, str]] = [
    ("balances_sum_to_zero", make_money, "all balances sum to 1 fen"),
    ("assets_stay_apart", make_points_of_money, "a deposit, goes from the currency to POINTS"),
    ("coupons_match_holdings", give_a_coupon, "0 coupons were claimed, 1 were given"),
    ("coupon_batches_add_up", leave_a_given_coupon_free, "coupon 7 was given, and is free"),
    ("balances_equal_transfers", make_money, "wallet account"),
    ("balances_equal_transfers", move_without_transfer, "of user-1 has"),
    ("balances_equal_transfers", pay_a_stranger, "account 999, which does not exist"),
    ("packets_add_up", forget_a_claim, "5 shares, but 4 claims"),
    ("packets_add_up", forget_a_payment, "0 fen were paid for it"),
    ("packets_add_up", misstate_the_rest, "7 shares, but 2 claims and 6 left over"),
    ("packets_add_up", keep_custody, "it has ended and is not settled"),
    ("no_user_twice", give_a_user_two, "user-0 has 2 shares"),
    ("no_slot_twice", give_a_share_twice, "share 1 was given 2 times"),
    ("shares_as_split", change_an_amount, "for share 0, which is"),
    ("shares_as_split", change_the_seed, "not those it committed to"),
    ("events_applied", lose_a_batch, "the one before ended at"),
    ("events_applied", move_the_checkpoint, "begins after"),
    ("events_applied", forget_a_claim, "claims were applied, the ledger holds"),
    ("chains_unbroken", change_an_amount, "or a row of these changes, was changed"),
    ("chains_unbroken", lose_a_batch, "was removed"),
    ("transfers_unbroken", forget_a_payment, "was removed"),
    ("nothing_quarantined", set_something_aside, "a test"),
    ("withdrawals_add_up", take_from_the_payout_account, "the payout account holds 100099 fen"),
    ("withdrawals_add_up", settle_without_paying, "is settled, but its payout of 100000 fen is not"),
    ("withdrawals_add_up", settle_without_paying, "is settled, but its fee of 100 fen is not"),
    ("withdrawals_add_up", call_a_settled_one_failed, "is failed, but its withdrawal_return of 100000 fen is not"),
    ("withdrawals_add_up", pay_another_amount, "is settled, but its payout of 100000 fen is not"),
    ("withdrawals_add_up", keep_what_failed, "is failed, but its withdrawal_return of"),
    ("withdrawals_add_up", pay_for_no_withdrawal, "a payout of 7 fen, belongs to no withdrawal"),
    ("operator_log_unbroken", change_a_reason, "row 1, or its hash, was changed"),
    ("operator_log_unbroken", remove_a_row_of_the_log, "row 2 is missing before row 3"),
    ("operator_log_unbroken", cut_the_log, "it ends with row 2, and its head says 3"),
    ("operator_log_unbroken", approve_past_the_log, "is executed by bob, who is not in the log with it"),
    *(("fundraisers_add_up", corrupt, told) for corrupt, told in FUNDS),
    ("cards_add_up", make_a_set_of_cards, "of the pool of 5 fen 0 are paid and 0 returned, it holds 0;"),
    ("stream_continues_ledger", lose_the_lane, "Redis has lost it"),
    ("stream_continues_ledger", change_the_epoch, "fenced"),
    ("stream_continues_ledger", set_the_lane_back, "the ledger at"),
    ("stream_continues_ledger", trim_past_the_checkpoint, "are gone from the stream"),
    ("stream_continues_ledger", trim_everything, "are gone from the stream"),
    ("redis_agrees", lose_a_share, "the list in Redis holds 2"),
    ("redis_agrees", double_a_share, "a share is in Redis twice"),
    ("redis_agrees", forget_a_claim_in_redis, "the ledger gave user-1"),
    ("redis_agrees", raise_a_claim_in_redis, "the ledger gave user-1"),
    ("redis_agrees", give_without_an_event, "neither an event nor a ledger entry has it"),
    ("redis_agrees", miscount_the_rest, "left in Redis"),
    ("redis_agrees", lose_an_open_packet, "it is open and Redis has lost it"),
    ("redis_agrees", trim_everything, "Redis gave late-1"),
]


@pytest.mark.long
@pytest.mark.parametrize(
    ("invariant", "corrupt", "told"), CORRUPTIONS, ids=[f"{row[0]}-{row[1].__name__}" for row in CORRUPTIONS]
)
async def test_what_is_made_wrong_is_named(scene: Scene, invariant: str, corrupt: Corruption, told: str) -> None:
    """By an audit of all history, and by one that goes on from an anchor."""
    await corrupt(scene)
    on = await audited(scene.engine)
    assert on.is_on
    for findings in (await run(scene.engine), {finding.invariant: finding for finding in on.findings}):
        problems = broken(findings).get(invariant, ())
        assert any(told in problem for problem in problems), problems


async def test_every_invariant_has_a_corruption(scene: Scene) -> None:
    corrupted = {invariant for invariant, _, _ in CORRUPTIONS}
    assert corrupted | {ELSEWHERE} == set(await run(scene.engine))


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "docs/runbooks/imbalance.md"])
def test_every_invariant_is_explained(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    names = {invariant for invariant, _, _ in CORRUPTIONS} | {ELSEWHERE, "anchor_holds"}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


async def test_what_waits_for_the_persister_is_no_fault(scene: Scene) -> None:
    for number in range(3, 6):
        await scene.engine.claims.claim(scene.open, f"user-{number}")
    findings = await run(scene.engine)
    assert broken(findings) == {}
    assert findings["stream_continues_ledger"].examined == 3
    assert len(await claimed(scene.engine.pool, scene.open)) == 3


async def test_a_busy_engine_raises_no_false_alarm(settings: Settings) -> None:
    async with Engine.open(settings) as engine, persisting(settings), sweeping(settings):
        packets = [
            (await send(engine, count=40, total_fen=4_000, ttl_s=2 if number % 3 == 0 else None)).packet_id
            for number in range(12)
        ]
        done = asyncio.Event()

        async def tap(hand: int) -> None:
            for number in range(60):
                await engine.claims.claim(packets[(hand + number) % len(packets)], f"user-{hand}-{number % 30}")
            if hand == 0:
                done.set()

        async with asyncio.TaskGroup() as group:
            for hand in range(20):
                group.create_task(tap(hand))
            audits = 0
            while not done.is_set() or audits < 3:
                assert broken(await run(engine)) == {}
                audits += 1


async def test_packets_of_any_size_and_number_are_read(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those too large to be read whole among those that are, in several lanes and pages; a fault in each is found."""
    monkeypatch.setattr("engine.auditing.lanes._PACKETS_PAGE", 3)
    async with Engine.open(changed(settings, lanes=2)) as engine:
        async with persisting(changed(settings, lanes=2)):
            counts = [2, 2, READ_WHOLE_COUNT_MAX + 1, 2, READ_WHOLE_COUNT_MAX, 2, 2, READ_WHOLE_COUNT_MAX + 5, 2]
            packets = [(await send(engine, count=count, total_fen=10 * count)).packet_id for count in counts]
            for packet_id in packets:
                await engine.claims.claim(packet_id, "ada")
            await caught_up(engine)
        finding = (await run(engine))["redis_agrees"]
        assert (finding.problems, finding.examined) == ((), len(packets))
        for packet_id in packets:
            await command(engine.redis, "RPOP", keys.shares(packet_id))
        found = " ".join((await run(engine))["redis_agrees"].problems)
        assert [packet_id for packet_id in packets if packet_id not in found] == []


@pytest.mark.long
async def test_many_problems_are_told_in_part_and_counted(scene: Scene) -> None:
    rows = ", ".join(f"(0, {number}, {scene.open}, 'claim', 0, 'a test')" for number in range(PROBLEMS_MAX + 7))
    await scene.sql(f"INSERT INTO quarantine (lane, position, packet_id, kind, at_ms, reason) VALUES {rows}")
    finding = (await run(scene.engine))["nothing_quarantined"]
    assert (len(finding.problems), finding.more) == (PROBLEMS_MAX, 7)
