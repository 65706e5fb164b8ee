"""Festivals of both calendars; the lunar dates are those that almanacs print."""

from collections import Counter
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.calendar.occasions import Occasion, occasions_of

ALMANAC = {
    "2024-02-09": Occasion.SPRING_FESTIVAL_EVE,
    "2024-02-10": Occasion.SPRING_FESTIVAL,
    "2024-02-24": Occasion.LANTERN_FESTIVAL,
    "2024-06-10": Occasion.DRAGON_BOAT_FESTIVAL,
    "2024-08-10": Occasion.QIXI,
    "2024-09-17": Occasion.MID_AUTUMN_FESTIVAL,
    "2025-01-28": Occasion.SPRING_FESTIVAL_EVE,
    "2025-01-29": Occasion.SPRING_FESTIVAL,
    "2025-02-12": Occasion.LANTERN_FESTIVAL,
    "2025-05-31": Occasion.DRAGON_BOAT_FESTIVAL,
    "2025-08-29": Occasion.QIXI,  # the sixth month was doubled
    "2025-10-06": Occasion.MID_AUTUMN_FESTIVAL,
    "2026-02-16": Occasion.SPRING_FESTIVAL_EVE,
    "2026-02-17": Occasion.SPRING_FESTIVAL,
    "2026-03-02": Occasion.SPRING_FESTIVAL,
    "2026-03-03": Occasion.LANTERN_FESTIVAL,
    "2026-06-19": Occasion.DRAGON_BOAT_FESTIVAL,
    "2026-08-19": Occasion.QIXI,
    "2026-09-25": Occasion.MID_AUTUMN_FESTIVAL,
    "2026-01-01": Occasion.NEW_YEAR,
    "2026-02-14": Occasion.VALENTINES_DAY,
    "2026-05-20": Occasion.MAY_20,
    "2026-10-01": Occasion.NATIONAL_DAY,
}


@pytest.mark.parametrize(("day", "occasion"), ALMANAC.items())
def test_a_festival_is_when_almanacs_say(day: str, occasion: Occasion) -> None:
    assert occasions_of(date.fromisoformat(day)) == (occasion,)


@pytest.mark.parametrize("day", ["2026-02-15", "2026-03-04", "2026-05-21", "2026-09-24", "2026-09-26", "2025-07-31"])
def test_any_other_day_is_none(day: str) -> None:
    assert occasions_of(date.fromisoformat(day)) == ()


def test_of_two_on_a_day_that_of_the_chinese_calendar_is_first() -> None:
    assert occasions_of(date(2010, 2, 14)) == (Occasion.SPRING_FESTIVAL, Occasion.VALENTINES_DAY)
    assert occasions_of(date(2014, 2, 14)) == (Occasion.LANTERN_FESTIVAL, Occasion.VALENTINES_DAY)
    assert occasions_of(date(2020, 10, 1)) == (Occasion.MID_AUTUMN_FESTIVAL, Occasion.NATIONAL_DAY)


@pytest.mark.parametrize("year", [1901, 1985, 2023, 2033, 2099])
def test_a_year_has_each_once_and_the_spring_festival_for_a_fortnight(year: int) -> None:
    days = [date(year, 1, 1) + timedelta(days=number) for number in range(365)]
    counts = Counter(occasion for day in days for occasion in occasions_of(day))
    assert counts == {occasion: 14 if occasion is Occasion.SPRING_FESTIVAL else 1 for occasion in Occasion}


@given(st.dates())
def test_every_day_there_is_has_at_most_two(day: date) -> None:
    assert len(occasions_of(day)) <= 2


def test_beyond_the_tables_only_solar_festivals_are_known() -> None:
    assert occasions_of(date(2200, 2, 14)) == (Occasion.VALENTINES_DAY,)
    assert occasions_of(date(9999, 12, 31)) == occasions_of(date.min + timedelta(days=1)) == ()
