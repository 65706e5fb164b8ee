"""A card set's proof that anyone may have written: it is checked or refused in words, never with a traceback."""

from typing import Any

import orjson
import pytest

from engine.cards.checking import read, verify
from engine.errors import OperatorError

CARD: dict[str, Any] = {"card": 1, "name": "a", "is_wild": False, "count": 5, "granted_count": 1}
PROOF: dict[str, Any] = {
    "set_id": "1",
    "seed": "00" * 32,
    "commitment": "00" * 32,
    "pool_fen": 10,
    "split": "lucky",
    "min_fen": 1,
    "payout": "at_once",
    "claim_seconds": None,
    "grants_a_user_max": 1,
    "ends_at_ms": 1,
    "draws_at_ms": 1,
    "cards": [CARD, CARD | {"card": 2}],
    "completers": 1,
    "grants": [],
    "shares": [{"number": 0, "user_id": "ada", "share_fen": 10, "paid_at_ms": None}],
}
SHARE: dict[str, Any] = PROOF["shares"][0]
GRANT: dict[str, Any] = {"number": 1, "user_id": "ada", "card": 1, "granted_at_ms": 1}


def proof_of(**changed: object) -> bytes:
    return orjson.dumps(PROOF | changed)


def test_a_proof_of_another_set_does_not_hold() -> None:
    (problem,) = verify(read(proof_of()))
    assert "seed, terms and cards" in problem


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"grants": [GRANT | {"number": 2}]}, "grant 2 cannot be"),
        ({"grants": [GRANT, GRANT | {"number": 2}, GRANT | {"number": 3}]}, "grant"),
        ({"shares": []}, "1 users completed the set, and 0 have a share"),
        ({"shares": [SHARE | {"number": 1}]}, "not in the order"),
        ({"shares": [SHARE, SHARE | {"number": 1}], "completers": 2}, "not in the order"),
        ({"shares": [SHARE | {"share_fen": 9}]}, "share 0 of ada is 10 fen, not 9"),
        ({"min_fen": 11}, "the pool cannot be split"),
    ],
)
def test_what_is_wrong_is_told(changed: dict[str, object], told: str) -> None:
    assert any(told in problem for problem in verify(read(proof_of(**changed))))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"seed": "zz"}, "not a card set's proof"),
        ({"seed": "00"}, "32 bytes"),
        ({"commitment": "zz"}, "not a card set's proof"),
        ({"set_id": "\u00e9"}, "set_id"),
        ({"set_id": "1\n"}, "set_id"),
        ({"split": "even"}, "split"),
        ({"payout": "later"}, "payout"),
        ({"cards": [CARD, CARD]}, "numbered"),
        ({"cards": [CARD | {"card": number} for number in range(1, 23)]}, "numbered"),
        ({"cards": [CARD | {"name": "a\nb"}]}, "names"),
        ({"cards": [CARD | {"granted_count": 6}]}, "counts"),
        ({"cards": [CARD | {"count": 10**9}]}, "counts"),
        ({"cards": 5}, "cards"),
        ({"completers": 10**8}, "completers"),
        ({"completers": -1}, "completers"),
        ({"pool_fen": 10**16}, "pool_fen"),
        ({"shares": [SHARE] * 1_001}, "more than 1000"),
        ({"shares": [SHARE | {"user_id": "a b"}]}, "users"),
        ({"grants": [GRANT | {"user_id": ".."}]}, "users"),
    ],
)
def test_what_is_no_card_sets_proof_is_refused(changed: dict[str, object], told: str) -> None:
    with pytest.raises(OperatorError, match=told):
        read(proof_of(**changed))
