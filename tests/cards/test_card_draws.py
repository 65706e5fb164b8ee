"""What chance decides: the same everywhere, fair, to the fen, and bound by the commitment."""

import hashlib
import hmac
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cards import draws
from engine.cards.draws import commitment, draw_key, granted_card, most_completers, shares
from engine.records import SplitKind

SEED = bytes(range(32))


def drawn(text: str) -> bytes:
    return hmac.new(SEED, text.encode(), hashlib.sha256).digest()


def test_what_chance_decides_never_changes() -> None:
    """They were computed once: another release, or another process, must have the same."""
    for number in range(1, 20):
        place = int.from_bytes(drawn(f"grant 7 {number}")[:8], "big") * 10 // 2**64
        assert granted_card(SEED, "7", number, [3, 0, 7]) == (0 if place < 3 else 2)
    assert draw_key(SEED, "7", "ada") == drawn("order 7 ada")[:16]


def test_a_grant_is_as_likely_as_the_card_is_scarce() -> None:
    """Chi-square of 20,000 first grants, two degrees of freedom."""
    got = Counter(granted_card(SEED, "7", number, [700, 290, 10]) for number in range(20_000))
    due = {0: 14_000, 1: 5_800, 2: 200}
    assert sum((got[place] - count) ** 2 / count for place, count in due.items()) < 13.8  # one in a thousand


def test_the_order_does_not_follow_who_came_first() -> None:
    users = [f"user{number:05}" for number in range(10_000)]
    order = sorted(users, key=lambda user: draw_key(SEED, "7", user))
    first = sum(user < "user05000" for user in order[:5_000])
    assert abs(first - 2_500) < 170  # three and a half standard deviations, and as many in a half as elsewhere


@given(
    completers=st.integers(1, 60),
    part=st.integers(1, 12),
    least=st.integers(1, 40),
    more=st.integers(0, 5_000),
    split=st.sampled_from([SplitKind.LUCKY, SplitKind.EQUAL]),
)
def test_the_shares_are_the_pool(completers: int, part: int, least: int, more: int, split: SplitKind) -> None:
    pool_fen = completers * least + more
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draws, "PART", part)
        terms = (split, pool_fen, completers, least, SEED, "7")
        found = [fen for first in range(0, completers, part) for fen in shares(*terms, first)]
    assert (len(found), sum(found)) == (completers, pool_fen)
    assert min(found) >= least
    if split is SplitKind.EQUAL:
        assert max(found) - min(found) <= 1


@given(counts=st.lists(st.integers(1, 12), min_size=2, max_size=5), wild=st.integers(0, 10))
def test_no_more_can_complete_a_set_than_its_cards_allow(counts: list[int], wild: int) -> None:
    most, left, jokers = 0, list(counts), wild
    while sum(count == 0 for count in left) <= jokers:  # one after another, each with as few wild cards as they must
        jokers -= sum(count == 0 for count in left)
        left = [max(0, count - 1) for count in left]
        most += 1
        if jokers == 0 and not all(left):
            break
    assert most_completers(counts, wild) == most


@pytest.mark.parametrize("change", ["number", "seed", "terms", "count", "granted", "wild", "name", "order"])
def test_the_commitment_binds_everything(change: str) -> None:
    cards = [(1, 10, 0, False, "爱国福"), (2, 5, 1, False, "敬业福"), (3, 1, 0, True, "万能福")]
    first = commitment("7", SEED, (1, "lucky"), cards)
    other = {
        "number": ("8", SEED, (1, "lucky"), cards),
        "seed": ("7", SEED[::-1], (1, "lucky"), cards),
        "terms": ("7", SEED, (2, "lucky"), cards),
        "count": ("7", SEED, (1, "lucky"), [(1, 11, 0, False, "爱国福"), *cards[1:]]),
        "granted": ("7", SEED, (1, "lucky"), [(1, 10, 1, False, "爱国福"), *cards[1:]]),
        "wild": ("7", SEED, (1, "lucky"), [*cards[:2], (3, 1, 0, False, "万能福")]),
        "name": ("7", SEED, (1, "lucky"), [(1, 10, 0, False, "福"), *cards[1:]]),
        "order": ("7", SEED, (1, "lucky"), cards[::-1]),
    }[change]
    assert first != commitment(*other)
