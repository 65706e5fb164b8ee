"""Medians, spreads, ratios within a round, percentiles; selections of runs; how far behind the ledger was."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.report.selection import Selection, cpu_us
from benchmarks.rig.figures import Figure, figure, percentile, ratio
from benchmarks.rig.lag import Sample, emitted_per_s, seconds_behind

RATES = st.floats(min_value=0.001, max_value=1e9)


def test_a_figure_is_the_median_with_its_spread() -> None:
    assert figure([3.0, 1.0, 10.0]) == Figure(3.0, 1.0, 10.0, 3)
    assert figure([]) is None


def test_a_figure_reads_as_median_and_spread() -> None:
    assert Figure(1500.4, 1200.0, 1800.0, 5).text() == "1,500 (1,200–1,800)"
    assert Figure(2.0, 2.0, 2.0, 1).text(".2f") == "2.00"


def test_a_ratio_is_taken_within_each_round_both_have() -> None:
    # The medians' ratio would be 2; within the rounds it is 1, 4 and (no third) so 2.5.
    assert ratio({1: 10.0, 2: 40.0, 3: 20.0}, {1: 10.0, 2: 10.0}) == Figure(2.5, 1.0, 4.0, 2)
    assert ratio({1: 1.0}, {2: 1.0}) is None


@given(st.dictionaries(st.integers(1, 9), RATES, min_size=1), st.floats(min_value=0.1, max_value=100))
def test_a_machine_that_slows_both_alike_leaves_the_ratio_alone(theirs: dict[int, float], factor: float) -> None:
    found = ratio({number: value * factor for number, value in theirs.items()}, theirs)
    assert found is not None
    assert math.isclose(found.least, factor, rel_tol=1e-9)
    assert math.isclose(found.most, factor, rel_tol=1e-9)


@given(st.lists(RATES, min_size=1, max_size=300), st.integers(0, 1000))
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(values: list[float], permille: int) -> None:
    values.sort()
    found = percentile(values, permille / 1000)
    assert found in values
    assert sum(value <= found for value in values) * 1000 >= permille * len(values)
    assert sum(value < found for value in values) * 1000 < max(1, permille) * len(values)


def test_a_percentile_of_all_is_the_greatest() -> None:
    assert percentile([1.0, 2.0, 3.0], 1.0) == 3.0
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2.0


def run(number: int, **fields: object) -> dict[str, object]:
    """A run of A by our server that counts."""
    about = {"workload": "A", "server": "hongbao", "round": number, "connections": 256, "void": None}
    return {**about, "answers_per_s": 100.0 * number, **fields}


def test_a_selection_leaves_out_void_runs_and_other_runs() -> None:
    runs = [run(1), run(2, void="audit"), run(3), run(4, connections=64), run(5, server="go"), run(6, workload="B")]
    assert Selection(runs, "A", "hongbao", 256).by_round("answers_per_s") == {1: 100.0, 3: 300.0}
    assert Selection(runs, "A").by_round("answers_per_s") == {1: 100.0, 3: 300.0, 4: 400.0}


def test_a_selection_reads_fields_within_fields() -> None:
    costs = {"server": 30.0, "redis": 4.0, "wrk": 10.0}
    chosen = Selection([run(1, cpu_us_per_answer=costs, latency_ms={"p99": 2.5})], "A")
    assert chosen.by_round("latency_ms/p99") == {1: 2.5}
    assert chosen.by_round("refusals_per_s") == {1: 0.0}
    assert chosen.by_round(cpu_us("server", "redis")) == {1: 34.0}
    assert chosen.processes() == ["server", "redis", "wrk"]


def test_the_ledger_is_as_far_behind_as_its_oldest_waiting_change() -> None:
    samples = [
        Sample(0.0, 0, 0),
        Sample(1.0, 100, 0),
        Sample(2.0, 200, 50),
        Sample(3.0, 200, 150),
        Sample(4.0, 200, 200),
    ]
    # At 2 s change 51 waits, seen first at 1 s; at 3 s change 151 waits, seen first at 2 s.
    assert seconds_behind(samples) == [(0.0, 0.0), (1.0, 0.0), (2.0, 1.0), (3.0, 1.0), (4.0, 0.0)]


def test_what_came_before_and_after_two_times_is_no_part_of_the_rate_between_them() -> None:
    samples = [Sample(0.0, 0, 0), Sample(1.0, 10, 0), Sample(2.0, 110, 0), Sample(3.0, 210, 0), Sample(4.0, 210, 0)]
    assert emitted_per_s(samples, 1.0, 3.0) == pytest.approx(100)
    assert emitted_per_s(samples, 1.25, 2.5) == pytest.approx(100)
    assert emitted_per_s(samples, 0.5, 2.5) == pytest.approx(155 / 2)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=40))
def test_lag_is_never_negative_nor_longer_than_the_samples(steps: list[tuple[int, int]]) -> None:
    samples, position, applied = [], 0, 0
    for place, (emitted, took) in enumerate(steps):
        position += emitted
        applied = min(position, applied + took)
        samples.append(Sample(float(place), position, applied))
    for (at_s, behind_s), sample in zip(seconds_behind(samples), samples, strict=True):
        assert 0.0 <= behind_s <= at_s
        assert sample.position > sample.applied or behind_s == 0.0


def test_medians_agree_with_the_standard_library() -> None:
    values = [5.0, 1.0, 9.0, 7.0]
    found = figure(values)
    assert found is not None
    assert found.median == pytest.approx(statistics.median(values))
