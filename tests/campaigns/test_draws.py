"""Who may win and where they ask: the same everywhere, fair, and bound by the commitment."""

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.campaigns.draws import MILLION, commitment, divided, may_win, order_of
from engine.packets import split as splitting
from engine.records import SplitKind

SEED = bytes(range(32))


def test_the_odds_are_what_was_published() -> None:
    """Chi-square of 20,000 users against 30 %, and no user's luck depends on the wave before."""
    lucky = [[may_win(SEED, "7", wave, f"user{number}", 300_000) for number in range(20_000)] for wave in (1, 2)]
    for wave in lucky:
        won = sum(wave)
        assert (won - 6_000) ** 2 / 6_000 + (won - 6_000) ** 2 / 14_000 < 10.8  # one in a thousand
    both = sum(first and second for first, second in zip(*lucky, strict=True))
    assert abs(both - 1_800) < 200
    assert all(may_win(SEED, "7", 1, f"user{number}", MILLION) for number in range(100))
    assert sum(may_win(SEED, "7", 1, f"user{number}", 1) for number in range(10_000)) < 3


def test_the_odds_and_the_order_never_change() -> None:
    """They were computed once: another release, or another process, must have the same."""
    assert [may_win(SEED, "7", 1, f"user{number}", 500_000) for number in range(8)] == [
        int.from_bytes(_hmac(f"odds 7 1 user{number}")[:8], "big") < 2**63 for number in range(8)
    ]
    key, left, counts, expected = _hmac("order 7 2 ada"), [0, 1, 2, 3], [30, 1, 500, 9], []
    for place in range(3):
        drawn = hashlib.blake2b(str(place).encode(), key=key, digest_size=8).digest()
        tickets = [bucket for bucket in left for _ in range(counts[bucket])]
        expected.append(tickets[int.from_bytes(drawn, "big") * len(tickets) >> 64])
        left.remove(expected[-1])
    assert list(order_of(SEED, "7", 2, "ada", counts)) == expected + left


def _hmac(text: str) -> bytes:
    """HMAC-SHA256 as RFC 2104 has it."""
    padded = SEED.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded) + text.encode()).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in padded) + inner).digest()


def test_users_ask_the_buckets_evenly() -> None:
    first = Counter(next(order_of(SEED, "7", 1, f"user{number}", [5] * 6)) for number in range(6_000))
    assert sorted(first) == list(range(6))
    assert sum((count - 1_000) ** 2 / 1_000 for count in first.values()) < 20.5  # chi-square, five degrees
    assert list(order_of(SEED, "7", 1, "ada", [9])) == [0]


def test_a_prize_comes_first_as_often_as_it_has_shares() -> None:
    counts = [600, 300, 90, 10]
    first = Counter(next(order_of(SEED, "7", 1, f"user{number}", counts)) for number in range(10_000))
    expected = [count * 10 for count in counts]
    assert sum((first[place] - due) ** 2 / due for place, due in enumerate(expected)) < 16.3  # three degrees


@given(counts=st.lists(st.integers(1, 10**7), min_size=1, max_size=60), user=st.integers(0, 10**6))
def test_every_bucket_has_its_place(counts: list[int], user: int) -> None:
    assert sorted(order_of(SEED, "7", 1, f"user{user}", counts)) == list(range(len(counts)))


@given(
    count=st.integers(1, 500),
    buckets=st.integers(1, 40),
    bounds=st.tuples(st.integers(1, 50), st.integers(0, 50)),
    place=st.floats(0, 1),
)
def test_a_wave_is_divided_within_its_bounds(count: int, buckets: int, bounds: tuple[int, int], place: float) -> None:
    buckets = min(buckets, count)
    least, most = bounds[0], sum(bounds)
    total_fen = count * least + int(place * count * (most - least))
    parts = divided(total_fen, count, buckets)
    assert sum(fen for fen, _ in parts) == total_fen
    assert sum(shares for _, shares in parts) == count
    assert max(shares for _, shares in parts) - min(shares for _, shares in parts) <= 1
    for fen, shares in parts:
        splitting.check(SplitKind.LUCKY, fen, shares, least, most)


@given(share_fen=st.integers(1, 1_000), count=st.integers(1, 300), buckets=st.integers(1, 40))
def test_equal_shares_stay_equal(share_fen: int, count: int, buckets: int) -> None:
    for fen, shares in divided(share_fen * count, count, min(buckets, count)):
        assert fen == share_fen * shares


@pytest.mark.parametrize("change", ["number", "odds", "seed", "wave", "asset", "packet", "split", "order"])
def test_the_commitment_binds_everything(change: str) -> None:
    buckets = [(1, "-", "1000000000000000001", bytes(32)), (2, "POINTS", "1000100000000000001", bytes([1] * 32))]
    other = {
        "number": ("8", 500, SEED, buckets),
        "odds": ("7", 501, SEED, buckets),
        "seed": ("7", 500, SEED[::-1], buckets),
        "wave": ("7", 500, SEED, [(2, *buckets[0][1:]), buckets[1]]),
        "asset": ("7", 500, SEED, [(1, "POINTS", *buckets[0][2:]), buckets[1]]),
        "packet": ("7", 500, SEED, [(1, "-", "1000000000000000002", bytes(32)), buckets[1]]),
        "split": ("7", 500, SEED, [(*buckets[0][:3], bytes([2] * 32)), buckets[1]]),
        "order": ("7", 500, SEED, buckets[::-1]),
    }[change]
    assert commitment("7", 500, SEED, buckets) != commitment(*other)
