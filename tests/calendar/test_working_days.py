"""China's working days: weekends and holidays are none, but weekends that make up for holidays are."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.calendar.working_days import is_planned, is_working_day, working_day
from tests.support.plans import planned_until


@pytest.mark.parametrize(
    ("day", "is_one"),
    [
        (date(2026, 11, 20), True),  # a Friday
        (date(2026, 11, 21), False),
        (date(2026, 11, 22), False),
        (date(2026, 2, 14), True),  # a Saturday that makes up for the Spring Festival
        (date(2026, 2, 16), False),  # its eve
        (date(2026, 2, 20), False),
        (date(2026, 10, 7), False),
        (date(2026, 10, 8), True),
        # Of a year without a plan nothing but what the law names is known, which no plan takes away.
        (date(2027, 1, 1), False),
        (date(2035, 10, 1), False),
    ],
)
def test_which_days_are(day: date, is_one: bool) -> None:
    assert is_working_day(day) is is_one


def test_they_are_counted_over_weekends_and_holidays() -> None:
    assert working_day(date(2026, 11, 20), 3) == date(2026, 11, 25)
    assert working_day(date(2026, 11, 20), 7) == date(2026, 12, 1)
    assert working_day(date(2026, 9, 30), 1) == date(2026, 10, 8)
    with pytest.raises(ValueError, match="from 1"):
        working_day(date(2026, 11, 20), 0)


# Also of years without a plan: whatever is guessed of their days, they are counted alike.
@given(st.dates(date(2020, 1, 1), date(2030, 12, 1)), st.integers(1, 20))
def test_the_last_is_one_and_so_many_are_up_to_it(after: date, number: int) -> None:
    last = working_day(after, number)
    between = [after + timedelta(days=days) for days in range(1, (last - after).days + 1)]
    assert is_working_day(last)
    assert sum(map(is_working_day, between)) == number


def test_a_plan_is_known_of_every_year_that_has_one() -> None:
    # The first plan was 2001's; a later release of the calendar knows more years.
    assert all(is_planned(date(year, 6, 1)) for year in range(2001, 2027))
    assert not is_planned(date(2090, 6, 1))


@pytest.mark.parametrize(
    ("day", "is_one"),
    [
        (date(2026, 12, 24), True),
        (date(2026, 12, 25), False),  # the plan of 2027 may move days around New Year
        (date(2027, 1, 4), False),
    ],
)
def test_which_days_are_planned(day: date, is_one: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    planned_until(2026, monkeypatch)
    assert is_planned(day) is is_one
    planned_until(2027, monkeypatch)
    assert is_planned(day)
