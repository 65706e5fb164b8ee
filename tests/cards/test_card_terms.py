"""A set's terms: every bad field is named, and the pool is always enough."""

from typing import Any

import pytest

from engine.cards.terms import CardTerms, Payout, SetTerms, set_terms
from engine.errors import InvalidFieldsError
from engine.records import SplitKind
from engine.settings import Settings

NOW_MS = 1_800_000_000_000
CARDS = [CardTerms(name="a", count=10), CardTerms(name="b", count=4, granted_count=2)]


def checked(settings: Settings, **changed: Any) -> SetTerms:  # noqa: ANN401  # values of any kind
    values: dict[str, Any] = {
        "name": "集五福",
        "cards": CARDS,
        "wild": None,
        "pool_fen": 100,
        "split": SplitKind.LUCKY,
        "min_fen": None,
        "payout": Payout.AT_ONCE,
        "claim_seconds": None,
        "grants_a_user_max": 1,
        "ends_at_ms": NOW_MS + 1_000,
        "draws_at_ms": NOW_MS + 2_000,
    }
    return set_terms(settings=settings, now_ms=NOW_MS, **values | changed)


def test_proper_terms(settings: Settings) -> None:
    terms = checked(settings, wild=CardTerms(name="w", count=1))
    assert [card.name for card in terms.kinds] == ["a", "b", "w"]
    assert terms.min_fen == settings.share_fen_min
    checked(settings, payout=Payout.CLAIMABLE, claim_seconds=60, draws_at_ms=NOW_MS + 1_000)


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        ({"name": ""}, ["name"]),
        ({"name": "a" * 61}, ["name"]),
        ({"name": "a\u202eb"}, ["name"]),
        ({"cards": CARDS[:1]}, ["cards"]),
        ({"cards": [CardTerms(name=f"{number}", count=1) for number in range(21)]}, ["cards"]),
        ({"cards": [CARDS[1], CardTerms(name="b", count=1)]}, ["cards[1].name"]),
        ({"cards": [CARDS[1], CardTerms(name="a" * 41, count=1)]}, ["cards[1].name"]),
        ({"cards": [CARDS[1], CardTerms(name="a\n", count=1)]}, ["cards[1].name"]),
        ({"cards": [CARDS[1], CardTerms(name="c", count=0)]}, ["cards[1].count"]),
        ({"cards": [CARDS[1], CardTerms(name="c", count=10**8 + 1)]}, ["cards[1].count"]),
        ({"cards": [CARDS[1], CardTerms(name="c", count=1, granted_count=2)]}, ["cards[1].granted_count"]),
        ({"wild": CardTerms(name="a", count=1)}, ["wild.name"]),
        ({"wild": CardTerms(name="w", count=0)}, ["wild.count"]),
        ({"pool_fen": 0}, ["pool_fen"]),
        ({"pool_fen": 10**15 + 1}, ["pool_fen"]),
        ({"pool_fen": 3}, ["pool_fen"]),
        ({"pool_fen": 100, "min_fen": 26}, ["pool_fen"]),
        ({"pool_fen": 100, "min_fen": 18, "wild": CardTerms(name="w", count=2)}, ["pool_fen"]),
        ({"min_fen": 0}, ["min_fen"]),
        ({"claim_seconds": 60}, ["claim_seconds"]),
        ({"payout": Payout.CLAIMABLE}, ["claim_seconds"]),
        ({"payout": Payout.CLAIMABLE, "claim_seconds": 59}, ["claim_seconds"]),
        ({"payout": Payout.CLAIMABLE, "claim_seconds": 90 * 86_400 + 1}, ["claim_seconds"]),
        ({"grants_a_user_max": 0}, ["grants_a_user_max"]),
        ({"grants_a_user_max": 1_001}, ["grants_a_user_max"]),
        ({"ends_at_ms": NOW_MS}, ["ends_at_ms"]),
        ({"draws_at_ms": NOW_MS + 999}, ["draws_at_ms"]),
        ({"draws_at_ms": NOW_MS + 91 * 86_400_000}, ["draws_at_ms"]),
        ({"name": "", "pool_fen": 0, "ends_at_ms": 0}, ["name", "ends_at_ms", "pool_fen"]),
        ({"cards": [CardTerms(name=name, count=10_000_001) for name in "ab"], "grants_a_user_max": 0}, ["cards"]),
    ],
)
def test_a_bad_field_is_named(settings: Settings, changed: dict[str, Any], fields: list[str]) -> None:
    with pytest.raises(InvalidFieldsError) as caught:
        checked(settings, **changed)
    assert [problem.field for problem in caught.value.problems] == fields
