"""Rate limits: what a key may spend, what it gets back, what is remembered."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.problems import RateLimitedError
from api.rates import Rate, Rates


class Clock:
    """Stands still until it is told."""

    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def spent(rate: Rate, key: str, times: int) -> int:
    """How many of so many at once went through."""
    through = 0
    for _ in range(times):
        try:
            rate.take(key)
        except RateLimitedError:
            continue
        through += 1
    return through


def wait_for(rate: Rate, key: str) -> int:
    """How long the key is told to wait; 0 if it need not, and then some of its quota is spent."""
    try:
        rate.take(key)
    except RateLimitedError as error:
        return error.retry_after_s
    return 0


def test_a_quota_can_be_spent_at_once_and_comes_back_evenly() -> None:
    clock = Clock()
    rate = Rate("claims-user", 6, 60, clock=clock)
    assert spent(rate, "bob", 10) == 6
    assert spent(rate, "ada", 1) == 1  # each has a quota of their own
    clock.now_s += 9.9
    assert spent(rate, "bob", 1) == 0
    clock.now_s += 0.1
    assert spent(rate, "bob", 10) == 1
    clock.now_s += 600
    assert spent(rate, "bob", 10) == 6


def test_a_refusal_says_by_which_limit_and_how_long_to_wait() -> None:
    clock = Clock()
    rate = Rate("claims-user", 2, 60, clock=clock)
    spent(rate, "bob", 2)
    clock.now_s += 0.5
    with pytest.raises(RateLimitedError) as refused:
        rate.take("bob")
    error = refused.value
    assert (error.policy, error.quota, error.window_s, error.retry_after_s) == ("claims-user", 2, 60, 30)
    clock.now_s += error.retry_after_s
    rate.take("bob")


@given(
    quota=st.integers(1, 20),
    window_s=st.integers(1, 100),
    steps=st.lists(st.tuples(st.floats(0, 30), st.integers(1, 30)), max_size=40),
)
def test_no_window_ever_sees_more_than_twice_the_quota_and_waiting_always_helps(
    quota: int, window_s: int, steps: list[tuple[float, int]]
) -> None:
    """Twice: all of it at the window's begin, and what comes back during it."""
    clock = Clock()
    rate = Rate("any", quota, window_s, clock=clock)
    through: deque[float] = deque()
    for pause_s, times in steps:
        clock.now_s += pause_s
        through.extend([clock.now_s] * spent(rate, "key", times))
        while through and through[0] <= clock.now_s - window_s:
            through.popleft()
        assert len(through) <= 2 * quota
        wait_s = wait_for(rate, "key")
        assert wait_s <= window_s
        if wait_s:
            clock.now_s += wait_s
            rate.take("key")
        through.append(clock.now_s)


def test_the_key_not_seen_for_longest_is_forgotten_first() -> None:
    clock = Clock()
    rate = Rate("any", 1, 60, keys_max=3, clock=clock)
    for key in ("a", "b", "c"):
        assert spent(rate, key, 2) == 1
    clock.now_s += 60
    assert spent(rate, "a", 1) == 1  # seen again
    assert spent(rate, "d", 1) == 1
    assert len(rate) == 3
    assert spent(rate, "a", 1) == 0
    assert spent(rate, "d", 1) == 0
    for number in range(100):
        spent(rate, f"other{number}", 1)
    assert len(rate) == 3


def test_claims_and_other_requests_have_limits_apart() -> None:
    rates = Rates("user", 1, 2, 60)
    rates.take("bob", is_claim=True)
    with pytest.raises(RateLimitedError, match="claims-user is 1 per 60 s"):
        rates.take("bob", is_claim=True)
    for _ in range(2):
        rates.take("bob", is_claim=False)
    with pytest.raises(RateLimitedError, match="requests-user is 2 per 60 s"):
        rates.take("bob", is_claim=False)


def test_no_limit_is_no_limit() -> None:
    rates = Rates("user", 0, 1, 60)
    for _ in range(1_000):
        rates.take("bob", is_claim=True)
    rates.take("bob", is_claim=False)
    with pytest.raises(RateLimitedError):
        rates.take("bob", is_claim=False)
