"""The live page's cost to claims: what the figures make of bursts, and a short run on real servers."""

import io
import re

import pytest
from rich.console import Console

from benchmarks.bursts import Burst
from benchmarks.tabs import Schedule, compare, summary


def burst(claims_per_s: float) -> Burst:
    return Burst(claims_per_s=claims_per_s, server_us=20.0, redis_us=5.0, void=None)


def test_the_ratio_is_that_of_adjacent_seconds() -> None:
    # The machine halves its speed in the middle; the tabs cost a twentieth throughout.
    pairs = [(burst(rate), burst(rate * 0.95)) for rate in (40_000.0, 40_000.0, 20_000.0, 20_000.0, 20_000.0)]
    claims, server = summary(pairs)
    assert "without  20,000.0  with  19,000.0  ratio 0.950 (quartiles 0.95 to 0.95)" in claims
    assert "ratio 1.000" in server


@pytest.mark.long
@pytest.mark.programs("wrk", "redis-server")
@pytest.mark.usefixtures("quick_tempdir")
@pytest.mark.parametrize("whole", [False, True])
def test_tabs_are_open_in_one_second_and_closed_in_the_next(whole: bool) -> None:
    said = io.StringIO()
    schedule = Schedule(rounds=2, pairs_a_round=2, connections=1, packets=400, whole=whole)
    assert compare(schedule, Console(file=said, width=200)) == 4
    assert len(re.findall(r"[\d,]+/s +[\d,]+/s  ratio \d+\.\d\d\n", said.getvalue())) == 4
    found = re.search(r"(\d+) points came to 3 tabs; 0 requests failed", said.getvalue())
    assert found is not None, said.getvalue()
    assert int(found[1]) > 0
