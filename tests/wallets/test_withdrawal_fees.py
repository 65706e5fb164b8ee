"""What a withdrawal costs: by a table, and for any amounts."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.settings import Settings
from engine.wallets.withdrawal_fees import Cost, cost_of

DEFAULTS = Settings.model_construct()
AMOUNTS = st.integers(1, 2**53 - 1) | st.integers(1, 300_000)


@pytest.mark.parametrize(
    ("amount_fen", "used_fen", "free_fen", "fee_fen"),
    [
        (1, 0, 1, 0),
        (100_000, 0, 100_000, 0),
        (100_001, 0, 100_000, 10),  # one fen is charged, and the least fee is ten
        (110_000, 0, 100_000, 10),
        (110_001, 0, 100_000, 11),  # 10.001 fen, rounded up
        (200_000, 0, 100_000, 100),
        (1, 99_999, 1, 0),
        (2, 99_999, 1, 10),
        (1, 100_000, 0, 10),
        (10_000, 100_000, 0, 10),
        (10_001, 100_000, 0, 11),
        (1_000_000, 100_000, 0, 1_000),
        (1_000_001, 100_000, 0, 1_001),
        (5, 150_000, 0, 10),  # the allowance was larger once
        (2**53 - 1, 100_000, 0, 9_007_199_254_741),
    ],
)
def test_the_fee_is_a_thousandth_past_the_allowance(
    amount_fen: int, used_fen: int, free_fen: int, fee_fen: int
) -> None:
    assert cost_of(amount_fen, used_fen, DEFAULTS) == Cost(free_fen, fee_fen)


@given(
    amount_fen=AMOUNTS,
    used_fen=st.integers(0, 200_000),
    allowance_fen=st.integers(0, 200_000),
    per_mille=st.integers(0, 1_000),
    least_fen=st.integers(0, 1_000),
)
def test_for_any_amounts_the_fee_is_what_the_rule_says(
    amount_fen: int, used_fen: int, allowance_fen: int, per_mille: int, least_fen: int
) -> None:
    settings = Settings.model_construct(
        withdrawal_free_fen=allowance_fen, withdrawal_fee_per_mille=per_mille, withdrawal_fee_fen_min=least_fen
    )
    free_fen, fee_fen = cost_of(amount_fen, used_fen, settings)
    assert 0 <= free_fen <= amount_fen
    assert free_fen == amount_fen or used_fen + free_fen >= allowance_fen  # nothing is charged while any of it is left
    assert free_fen == 0 or used_fen + free_fen <= allowance_fen
    part = Fraction((amount_fen - free_fen) * per_mille, 1_000)
    assert fee_fen == (0 if free_fen == amount_fen else max(least_fen, math.ceil(part)))


@given(amounts=st.lists(st.integers(1, 60_000), min_size=1, max_size=12))
def test_a_lifetime_has_one_allowance_however_it_is_cut(amounts: list[int]) -> None:
    used_fen = 0
    for amount_fen in amounts:
        used_fen += cost_of(amount_fen, used_fen, DEFAULTS).free_fen
    assert used_fen == min(sum(amounts), DEFAULTS.withdrawal_free_fen)


@given(first=AMOUNTS, second=AMOUNTS, used_fen=st.integers(0, 150_000))
def test_more_never_costs_less(first: int, second: int, used_fen: int) -> None:
    smaller, larger = sorted((first, second))
    assert cost_of(smaller, used_fen, DEFAULTS).fee_fen <= cost_of(larger, used_fen, DEFAULTS).fee_fen
