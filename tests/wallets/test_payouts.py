"""Withdrawals on their way to the bank: the sandbox that plays it, and the loop, killed wherever it may be killed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as with_settings
from hypothesis import strategies as st

from engine.auditing.audit import audit
from engine.engine import Engine
from engine.errors import UnavailableError
from engine.settings import Settings
from engine.wallets.paying_out import advance, end, pay_out
from engine.wallets.payouts import (
    Payout,
    PayoutMismatchError,
    PayoutOrder,
    PayoutProvider,
    PayoutState,
    SandboxPayouts,
    provider_of,
    reference_of,
)
from engine.wallets.withdrawals import Withdrawal, WithdrawalState
from tests.support.scenes import assert_books_balance, changed, fund, sweeping
from tests.support.waiting import wait_until

GOOD, BAD = "6222020200112233", "6222020200110000"
PASSWORD = "135790"


@dataclass
class Unreliable:
    """The sandbox behind a line that breaks: before it hears, or after it has done what it was told.

    ``breaks``: what happens at each call, in turn: "" nothing, "before", "after"; nothing once they are used up.
    """

    sandbox: PayoutProvider
    breaks: list[str] = field(default_factory=list)

    async def submit(self, order: PayoutOrder) -> None:
        kind = self._break_before()
        await self.sandbox.submit(order)
        self._break_after(kind)

    async def find(self, reference: str) -> Payout | None:
        kind = self._break_before()
        found = await self.sandbox.find(reference)
        self._break_after(kind)
        return found

    async def of_day(self, first_ms: int, after_ms: int) -> Sequence[Payout]:
        return await self.sandbox.of_day(first_ms, after_ms)

    def _break_before(self) -> str:
        kind = self.breaks.pop(0) if self.breaks else ""
        if kind == "before":
            raise UnavailableError("The line broke.")
        return kind

    def _break_after(self, kind: str) -> None:
        if kind == "after":
            raise UnavailableError("The line broke.")


@pytest.fixture
async def funded(engine: Engine) -> Engine:
    """Alice has a payment password and 10,000 yuan."""
    await engine.payment_passwords.put("alice", PASSWORD, None)
    await fund(engine, "alice", 1_000_000)
    return engine


async def withdraw(engine: Engine, amount_fen: int = 200_000, bank_account: str = GOOD) -> Withdrawal:
    asked = await engine.withdrawals.withdraw(
        "alice", amount_fen, bank_account, PASSWORD, idempotency_key=uuid4().hex, request_hash=b"withdraw"
    )
    return asked.withdrawal


def order_of(withdrawal: Withdrawal) -> PayoutOrder:
    reference = reference_of(int(withdrawal.withdrawal_id), withdrawal.asked_at_ms)
    return PayoutOrder(reference, withdrawal.amount_fen, withdrawal.bank_account, withdrawal.asked_at_ms)


async def state_of(engine: Engine, withdrawal: Withdrawal) -> WithdrawalState:
    return (await engine.withdrawals.get("alice", int(withdrawal.withdrawal_id))).state


async def ended(engine: Engine, *withdrawals: Withdrawal) -> list[WithdrawalState]:
    """Their states, once none is processing."""

    async def have_ended() -> bool:
        return WithdrawalState.PROCESSING not in [await state_of(engine, one) for one in withdrawals]

    await wait_until(have_ended, timeout_s=10, what="the withdrawals' ending")
    return [await state_of(engine, one) for one in withdrawals]


async def balances(engine: Engine) -> dict[str, int]:
    rows = await engine.pool.fetch("SELECT coalesce(owner, kind::text) AS name, balance_fen FROM accounts")
    return {row["name"]: row["balance_fen"] for row in rows}


async def assert_sound(engine: Engine) -> None:
    findings = await audit(engine.pool, engine.store, engine.stream)
    assert [finding.problems for finding in findings if not finding.holds] == []
    await assert_books_balance(engine.pool)


async def run_until_ended(engine: Engine, provider: PayoutProvider, *withdrawals: Withdrawal) -> list[WithdrawalState]:
    stop = asyncio.Event()
    task = asyncio.create_task(pay_out(engine.pool, provider, engine.settings, stop))
    try:
        return await ended(engine, *withdrawals)
    finally:
        stop.set()
        await task


async def test_the_sandbox_pays_a_reference_once_and_fails_accounts_that_end_in_0000(engine: Engine) -> None:
    sandbox = provider_of(engine.pool, engine.settings)
    orders = [PayoutOrder(f"reference-{account}", 5, account, 1_000) for account in (GOOD, BAD)]
    assert await sandbox.find(orders[0].reference) is None
    for _ in range(2):
        for order in orders:
            await sandbox.submit(order)
    found = [await sandbox.find(order.reference) for order in orders]
    failure = "the bank does not know the account"
    assert found == [Payout(orders[0], PayoutState.SETTLED, None), Payout(orders[1], PayoutState.FAILED, failure)]
    for other in (orders[0]._replace(amount_fen=6), orders[0]._replace(bank_account=BAD)):
        with pytest.raises(PayoutMismatchError):
            await sandbox.submit(other)
    assert await sandbox.find(orders[0].reference) == found[0]
    assert await engine.pool.fetchval("SELECT count(*) FROM sandbox_payouts") == 2


async def test_the_sandbox_takes_its_time_and_lists_a_days_payouts(engine: Engine) -> None:
    slow = SandboxPayouts(engine.pool, changed(engine.settings, sandbox_payout_s=3_600))
    orders = [PayoutOrder(f"reference-{at_ms}", 5, GOOD, at_ms) for at_ms in (99, 100, 199, 200)]
    for order in orders:
        await slow.submit(order)
    assert [payout.state for payout in await slow.of_day(100, 200)] == [PayoutState.PROCESSING] * 2
    await engine.pool.execute("UPDATE sandbox_payouts SET ends_at_ms = 1")
    assert await slow.of_day(100, 200) == [Payout(order, PayoutState.SETTLED, None) for order in orders[1:3]]
    assert await slow.of_day(0, 99) == []


async def test_money_is_held_then_paid_with_its_fee_or_returned_whole(funded: Engine) -> None:
    good, bad = await withdraw(funded), await withdraw(funded, 50_000, BAD)
    assert [(one.free_fen, one.fee_fen) for one in (good, bad)] == [(100_000, 100), (0, 50)]
    held = await balances(funded)
    assert (held["alice"], held["payout"], held["fee"], held["bank"]) == (749_850, 250_150, 0, -1_000_000)
    await assert_sound(funded)
    states = await run_until_ended(funded, provider_of(funded.pool, funded.settings), good, bad)
    assert states == [WithdrawalState.SETTLED, WithdrawalState.FAILED]
    now = await balances(funded)
    assert (now["alice"], now["payout"], now["fee"], now["bank"]) == (799_900, 0, 100, -800_000)
    moved = (await funded.wallets.transfers("alice", after=None, limit=10)).transfers
    assert [(one.kind, one.amount_fen) for one in moved] == [
        ("withdrawal_return", 50_050),
        ("withdrawal", -50_050),
        ("withdrawal", -200_100),
        ("deposit", 1_000_000),
    ]
    told = await funded.withdrawals.get("alice", int(bad.withdrawal_id))
    assert told.failure == "the bank does not know the account"
    assert told.ended_at_ms is not None
    assert told.ended_at_ms >= told.asked_at_ms
    await assert_sound(funded)


async def test_the_allowance_of_one_that_failed_is_given_back(funded: Engine) -> None:
    provider = provider_of(funded.pool, funded.settings)
    failing = await withdraw(funded, 70_000, BAD)
    meanwhile = await withdraw(funded, 40_000)
    assert [(one.free_fen, one.fee_fen) for one in (failing, meanwhile)] == [(70_000, 0), (30_000, 10)]
    await run_until_ended(funded, provider, failing, meanwhile)
    later = await withdraw(funded, 80_000)
    assert (later.free_fen, later.fee_fen) == (70_000, 10)
    await assert_sound(funded)


async def test_killed_between_ordering_and_our_hearing_of_it_one_payout_is_made(funded: Engine) -> None:
    withdrawal = await withdraw(funded)
    order = order_of(withdrawal)
    provider = Unreliable(SandboxPayouts(funded.pool, funded.settings), ["", "after"])
    with pytest.raises(UnavailableError):
        await advance(funded.pool, provider, int(withdrawal.withdrawal_id), order)
    assert await state_of(funded, withdrawal) is WithdrawalState.PROCESSING
    await SandboxPayouts(funded.pool, funded.settings).submit(order)  # somebody who did not see it either
    assert await run_until_ended(funded, provider, withdrawal) == [WithdrawalState.SETTLED]
    assert await funded.pool.fetchval("SELECT array_agg(amount_fen) FROM sandbox_payouts") == [200_000]
    await assert_sound(funded)


async def test_a_withdrawal_ends_once_whoever_says_so_how_often(funded: Engine) -> None:
    withdrawal = await withdraw(funded)
    order, number = order_of(withdrawal), int(withdrawal.withdrawal_id)
    says = [Payout(order, PayoutState.SETTLED, None), Payout(order, PayoutState.FAILED, "no")] * 3
    results = await asyncio.gather(*(end(funded.pool, number, payout) for payout in says))
    assert sum(results) == 1
    first = await funded.withdrawals.get("alice", number)
    assert await end(funded.pool, number, says[0 if first.state is WithdrawalState.FAILED else 1]) is False
    assert await funded.withdrawals.get("alice", number) == first
    await assert_sound(funded)


async def test_sql_itself_refuses_to_end_one_again(funded: Engine) -> None:
    withdrawal = await withdraw(funded)
    await run_until_ended(funded, provider_of(funded.pool, funded.settings), withdrawal)
    for statement in (
        "UPDATE withdrawals SET state = 'processing', ended_at_ms = NULL, end_transfer_id = NULL",
        "UPDATE withdrawals SET amount_fen = amount_fen + 1",
        "DELETE FROM withdrawals",
        "TRUNCATE withdrawals",
    ):
        with pytest.raises(asyncpg.RaiseError, match="never changed or removed"):
            await funded.pool.execute(statement)


async def test_another_payout_by_a_reference_of_ours_ends_nothing(funded: Engine) -> None:
    withdrawal, other = await withdraw(funded), await withdraw(funded, 300)
    sandbox = SandboxPayouts(funded.pool, funded.settings)
    await sandbox.submit(order_of(withdrawal)._replace(amount_fen=1))
    with pytest.raises(PayoutMismatchError):
        await advance(funded.pool, sandbox, int(withdrawal.withdrawal_id), order_of(withdrawal))
    # The one behind it has its turn all the same.
    assert await run_until_ended(funded, sandbox, other) == [WithdrawalState.SETTLED]
    assert await state_of(funded, withdrawal) is WithdrawalState.PROCESSING
    await assert_sound(funded)


async def test_more_than_a_page_is_gone_through(funded: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.wallets.paying_out.PAGE_MAX", 3)
    withdrawals = [await withdraw(funded, 100) for _ in range(10)]
    states = await run_until_ended(funded, provider_of(funded.pool, funded.settings), *withdrawals)
    assert states == [WithdrawalState.SETTLED] * 10


async def test_what_the_payout_account_does_not_hold_is_not_paid(funded: Engine) -> None:
    """A row that no transfer stands behind: the books stay as they are, and the loop goes on."""
    await funded.pool.execute(
        "INSERT INTO withdrawals (user_id, amount_fen, fee_fen, free_fen, bank_account, transfer_id, asked_at_ms) "
        "VALUES ('alice', 5000, 0, 0, $1, 0, 1)",
        GOOD,
    )
    behind = await withdraw(funded, 400)
    before = await balances(funded)
    provider = provider_of(funded.pool, funded.settings)
    assert await run_until_ended(funded, provider, behind) == [WithdrawalState.SETTLED]
    now = await balances(funded)
    assert (now["payout"], now["bank"] - before["bank"]) == (0, 400)
    assert await funded.pool.fetchval("SELECT count(*) FROM withdrawals WHERE state = 'processing'") == 1


@pytest.mark.long
@with_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    accounts=st.lists(st.sampled_from([GOOD, BAD]), min_size=1, max_size=4),
    breaks=st.lists(st.lists(st.sampled_from(["", "before", "after"]), max_size=12), min_size=1, max_size=3),
)
async def test_whatever_breaks_each_ends_once_as_the_bank_says(
    funded: Engine, accounts: list[str], breaks: list[list[str]]
) -> None:
    """Several loops at once, each with a line that breaks in its own way."""
    settings = changed(funded.settings, payout_interval_s=0.001)
    before = await balances(funded)
    withdrawals = [await withdraw(funded, 1_000, account) for account in accounts]
    stop = asyncio.Event()
    sandbox = SandboxPayouts(funded.pool, settings)
    loops = [
        asyncio.create_task(pay_out(funded.pool, Unreliable(sandbox, list(kind)), settings, stop)) for kind in breaks
    ]
    states = await ended(funded, *withdrawals)
    stop.set()
    await asyncio.gather(*loops)
    assert states == [WithdrawalState.FAILED if one == BAD else WithdrawalState.SETTLED for one in accounts]
    now = await balances(funded)
    paid = sum(one.amount_fen + one.fee_fen for one in withdrawals if one.bank_account == GOOD)
    assert before["alice"] - now["alice"] == paid
    assert now["payout"] == 0
    await assert_sound(funded)


async def test_the_sweeper_runs_it(settings: Settings) -> None:
    async with Engine.open(settings) as engine:
        await engine.payment_passwords.put("alice", PASSWORD, None)
        await fund(engine, "alice", 10_000)
        async with sweeping(settings):
            assert await ended(engine, await withdraw(engine, 10_000)) == [WithdrawalState.SETTLED]
