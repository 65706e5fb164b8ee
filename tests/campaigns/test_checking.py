"""A campaign's proof that anyone may have written: it is checked or refused in words, never with a traceback."""

from typing import Any

import orjson
import pytest

from engine.campaigns.checking import read, verify
from engine.errors import OperatorError

_PART = {
    "packet_id": "1000099999000000001",
    "split": "lucky",
    "total_fen": 10,
    "count": 2,
    "min_fen": 1,
    "max_fen": 9,
    "seed": "00" * 32,
    "commitment": "00" * 32,
    "claims": None,
}
_PROOF = {"campaign_id": "1", "odds_millionths": 500_000, "seed": "00" * 32, "commitment": "00" * 32}


def proof_of(*, parts: list[dict[str, Any]] | None = None, **changed: object) -> bytes:
    waves = [{"wave": 1, "buckets": [_PART] if parts is None else parts}]
    return orjson.dumps({**_PROOF, "waves": waves, **changed})


def test_a_proof_of_other_packets_does_not_hold() -> None:
    problems = verify(read(proof_of()))
    assert len(problems) == 2
    assert "odds, seed and packets" in problems[1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (proof_of(seed="zz"), "not a campaign's proof"),
        (proof_of(seed="00"), "32 bytes"),
        (proof_of(commitment="zz"), "not a campaign's proof"),
        (proof_of(campaign_id="\u00e9"), "campaign_id"),
        (proof_of(campaign_id="1\n500000"), "campaign_id"),
        (proof_of(odds_millionths="many"), "odds_millionths"),
        (proof_of(waves=5), "waves"),
        (proof_of(parts=[_PART | {"commitment": "zz"}]), "not a campaign's proof"),
        (proof_of(parts=[_PART | {"commitment": "00"}]), "32 bytes"),
        (proof_of(parts=[_PART | {"seed": "00"}]), "32 bytes"),
        (proof_of(parts=[_PART | {"packet_id": "1"}]), "packet_id"),
        (proof_of(parts=[_PART | {"packet_id": "\u00e9" * 19}]), "packet_id"),
        (proof_of(parts=[_PART | {"split": "equal", "count": 10**15, "total_fen": 10**15}]), "count"),
        (proof_of(parts=[_PART | {"count": 6_000_000, "total_fen": 10**9}] * 2), "shares"),
    ],
)
def test_what_is_no_campaigns_proof_is_refused(text: bytes, told: str) -> None:
    with pytest.raises(OperatorError, match=told):
        read(text)
