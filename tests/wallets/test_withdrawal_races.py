"""Withdrawals at the same time as each other, and as a freeze: money is taken once, or not at all."""

import asyncio
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as with_settings
from hypothesis import strategies as st

from engine.auditing.audit import audit
from engine.engine import Engine
from engine.errors import FrozenError, HongbaoError, IdempotencyInFlightError, InsufficientFundsError
from engine.settings import Settings
from engine.wallets.withdrawal_fees import cost_of
from engine.wallets.withdrawals import Withdrawals
from tests.support.scenes import assert_books_balance, changed, fund

pytestmark = pytest.mark.long

GOOD, BAD = "6222020200112233", "6222020200110000"
PASSWORD = "135790"
EXAMPLES = with_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


async def withdrawn(withdrawals: Withdrawals, user_id: str, amount_fen: int, key: str = "") -> int | HongbaoError:
    """What left the wallet, or why nothing did."""
    try:
        withdrawal, _ = await withdrawals.withdraw(
            user_id, amount_fen, GOOD, PASSWORD, idempotency_key=key or uuid4().hex, request_hash=b"withdraw"
        )
    except HongbaoError as error:
        return error
    return withdrawal.amount_fen + withdrawal.fee_fen


async def user_with(engine: Engine, amount_fen: int) -> str:
    user_id = f"user-{uuid4().hex}"
    await engine.payment_passwords.put(user_id, PASSWORD, None)
    await fund(engine, user_id, amount_fen)
    return user_id


async def assert_sound(engine: Engine) -> None:
    await assert_books_balance(engine.pool)
    findings = await audit(engine.pool, engine.store, engine.stream)
    assert [finding.problems for finding in findings if not finding.holds] == []


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return changed(settings, database_pool_max=12)


@EXAMPLES
@given(
    balance_fen=st.integers(1, 3_000),
    amounts=st.lists(st.integers(1, 1_500), min_size=2, max_size=8),
    allowance_fen=st.integers(0, 2_000),
)
async def test_withdrawals_at_once_never_overdraw_nor_share_an_allowance(
    engine: Engine, balance_fen: int, amounts: list[int], allowance_fen: int
) -> None:
    settings = changed(engine.settings, withdrawal_free_fen=allowance_fen)
    withdrawals = Withdrawals(engine.pool, settings, engine.payment_passwords, engine.freezes)
    user_id = await user_with(engine, balance_fen)
    results = await asyncio.gather(*(withdrawn(withdrawals, user_id, amount_fen) for amount_fen in amounts))
    taken_fen = sum(result for result in results if isinstance(result, int))
    assert all(isinstance(result, int | InsufficientFundsError) for result in results), results
    left_fen = (await engine.wallets.get(user_id)).balance_fen
    assert (left_fen, left_fen >= 0) == (balance_fen - taken_fen, True)
    free_fen, charged = await engine.pool.fetchrow(  # type: ignore[misc]  # a sum has a row
        "SELECT coalesce(sum(free_fen), 0), count(*) FILTER (WHERE fee_fen > 0) FROM withdrawals WHERE user_id = $1",
        user_id,
    )
    assert free_fen <= allowance_fen
    assert charged == 0 or free_fen == allowance_fen
    for amount_fen, result in zip(amounts, results, strict=True):
        # Nobody was refused who could have been paid.
        needed_fen = amount_fen + cost_of(amount_fen, free_fen, settings).fee_fen
        assert isinstance(result, int) or needed_fen > left_fen
    await assert_sound(engine)


async def test_one_key_at_once_is_one_withdrawal(engine: Engine) -> None:
    user_id = await user_with(engine, 10_000)
    results = await asyncio.gather(*(withdrawn(engine.withdrawals, user_id, 100, "the-same") for _ in range(12)))
    assert {result for result in results if isinstance(result, int)} == {100}
    assert all(isinstance(result, int | IdempotencyInFlightError) for result in results), results
    assert (await engine.wallets.get(user_id)).balance_fen == 9_900


@EXAMPLES
@given(
    before=st.integers(0, 3),
    amounts=st.lists(st.integers(1, 400), min_size=3, max_size=8),
    soon=st.integers(0, 4),
    after=st.integers(0, 2),
)
async def test_a_withdrawal_against_a_freeze_is_done_before_it_or_not_at_all(
    engine: Engine, before: int, amounts: list[int], soon: int, after: int
) -> None:
    """Some withdrawals are under way when the freeze comes, at any moment; some come after it was answered."""
    user_id = await user_with(engine, 5_000)
    done = [await withdrawn(engine.withdrawals, user_id, 10) for _ in range(before)]
    assert done == [10] * before
    racing = [asyncio.create_task(withdrawn(engine.withdrawals, user_id, amount_fen)) for amount_fen in amounts]
    for _, done_one in zip(range(soon), asyncio.as_completed(racing), strict=False):
        await done_one
    await engine.freezes.freeze(user_id, reason="a test", frozen_by="root")
    answered = await _held(engine, user_id)
    late = [await withdrawn(engine.withdrawals, user_id, 10) for _ in range(after)]
    results = [*done, *(await asyncio.gather(*racing)), *late]
    assert all(isinstance(result, FrozenError) for result in late), late
    assert all(isinstance(result, int | FrozenError) for result in results), results
    # What is taken now was taken when the freeze was answered, and is what was told.
    taken_fen = sum(result for result in results if isinstance(result, int))
    assert answered == await _held(engine, user_id) == (taken_fen, 5_000 - taken_fen)
    await assert_sound(engine)


async def _held(engine: Engine, user_id: str) -> tuple[int, int]:
    """What was withdrawn and what the wallet has."""
    row = await engine.pool.fetchrow(
        "SELECT (SELECT coalesce(sum(amount_fen + fee_fen), 0)::bigint FROM withdrawals WHERE user_id = $1) AS held, "
        "(SELECT balance_fen FROM accounts WHERE owner = $1) AS balance",
        user_id,
    )
    assert row is not None
    return row["held"], row["balance"]
