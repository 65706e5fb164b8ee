"""A rain over a cluster's lanes against one in one lane: what the figures make of rains, and a short run."""

import io
import re

import pytest
from rich.console import Console

from benchmarks.rain import LANES, Rain, Sizes, measure, summary


def rain(lanes: int, *redis_us: float, calls: float = 0.0) -> Rain:
    return Rain(lanes=lanes, redis_us=redis_us, batched_per_s=20_000, single_per_s=40_000, calls_per_answer=calls)


def test_the_ratio_is_that_within_a_round() -> None:
    # The machine halves its speed after the first round.
    rounds = [
        [rain(1, 3.0, 0.0, 0.0), rain(LANES, 1.0, 1.1, 1.2)],
        [rain(1, 0.0, 6.0, 0.0), rain(LANES, 2.0, 2.2, 2.4, calls=0.5)],
        [rain(1, 6.0, 0.0, 0.0), rain(LANES, 2.0, 2.0, 2.0)],
    ]
    ratio, load, sold_out = summary(rounds)
    assert "6 lanes / 1 lane: 1.10 (1.00 to 1.10) in 3 rounds" in ratio
    assert "9.1% (0.0% to 9.1%)" in load
    assert "20,000 answers/s by batches, 40,000 one by one, 0.5000 script calls" in sold_out


@pytest.mark.long
@pytest.mark.usefixtures("quick_tempdir")
def test_rains_fall_in_one_lane_and_in_six() -> None:
    said = io.StringIO()
    (round_,) = measure(Sizes(rounds=1, users=2_000, late=300, at_once=2), Console(file=said, width=200))
    one, spread = round_
    assert (one.lanes, spread.lanes) == (1, LANES)
    assert max(one.calls_per_answer, spread.calls_per_answer) < 0.1  # the sweeper makes some of its own
    assert all(us > 0 for us in spread.redis_us)
    assert len(re.findall(r"script calls per answer\n", said.getvalue())) == 2
