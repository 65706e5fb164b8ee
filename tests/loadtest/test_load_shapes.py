"""The curve of the festival's eve."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.load.shapes import PEAK_OVER_CALM, PHASE_ENDS, Eve, Phase

eves = st.builds(Eve, duration_s=st.floats(1, 100_000), users_max=st.integers(PEAK_OVER_CALM, 100_000))
fractions = st.floats(0, 0.999)


@given(eves, fractions)
def test_never_empty_never_over_the_peak_and_never_below_calm(eve: Eve, fraction: float) -> None:
    users = eve.users_at(eve.duration_s * fraction)
    assert users is not None
    assert eve.users_max // PEAK_OVER_CALM <= users <= eve.users_max


@given(eves, st.floats(1.0, 10.0))
def test_is_over_when_it_is_over(eve: Eve, fraction: float) -> None:
    assert eve.users_at(eve.duration_s * fraction * 1.0001) is None


@given(eves)
def test_midnight_brings_ten_times_as_many(eve: Eve) -> None:
    calm, midnight = eve.users_at(0.0), eve.users_at(0.5 * eve.duration_s)
    assert calm is not None
    assert midnight == eve.users_max
    assert midnight // calm >= PEAK_OVER_CALM


@given(eves, fractions, fractions)
def test_the_ramp_rises_and_the_tail_falls(eve: Eve, one: float, other: float) -> None:
    early, late = sorted((one, other))
    for phase, falls in ((Phase.RAMP, False), (Phase.TAIL, True)):
        first, second = (eve.users_at(_within(eve, phase, fraction)) for fraction in (early, late))
        assert first is not None
        assert second is not None
        assert (first >= second) if falls else (first <= second)


def test_one_evening_in_full() -> None:
    eve = Eve(100.0, 200)
    times_s = (0, 19, 20, 30, 39.9, 40, 54, 55, 75, 99)
    assert [eve.phase_at(time_s) for time_s in times_s] == [
        *[Phase.CALM] * 2,
        *[Phase.RAMP] * 3,
        *[Phase.MIDNIGHT] * 2,
        *[Phase.TAIL] * 3,
    ]
    assert [eve.users_at(time_s) for time_s in times_s] == [20, 20, 20, 40, 60, 200, 200, 100, 29, 20]


@pytest.mark.parametrize(("duration_s", "users_max", "word"), [(90.0, 9, "users"), (0.0, 10, "longer")])
def test_an_evening_without_a_shape_is_refused(duration_s: float, users_max: int, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Eve(duration_s, users_max)


def _within(eve: Eve, phase: Phase, fraction: float) -> float:
    ends = list(PHASE_ENDS.values())
    number = list(PHASE_ENDS).index(phase)
    begin = ends[number - 1]
    return eve.duration_s * (begin + (ends[number] - begin) * (0.001 + 0.998 * fraction))
