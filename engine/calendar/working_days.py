"""China's working days: no weekends and no public holidays, except for weekends that make up for holidays."""

from datetime import date, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import holidays

_NEW_YEAR_FROM = 25
"""From this day of December on, next year's plan also counts."""


def working_day(after: date, number: int) -> date:
    """The ``number``-th working day after a day. The first is the next working day."""
    if number < 1:
        raise ValueError("working days are counted from 1")
    day = after
    while number:
        day += timedelta(days=1)
        number -= is_working_day(day)
    return day


def is_working_day(day: date) -> bool:
    """Whether it is a working day in China. If the year's plan is not published yet, only the law's holidays count."""
    return _of_year(day.year).is_working_day(day)


def is_planned(day: date) -> bool:
    """Whether it is certain that a day is, or is not, a working day.

    The State Council publishes a year's plan around November of the year before. Every plan so far has moved working
    days to weekends, which shows that it is known. A plan may also move days before New Year, as on 29 December 2018.
    """
    return _has_plan(day.year) and (day < date(day.year, 12, _NEW_YEAR_FROM) or _has_plan(day.year + 1))


def _has_plan(year: int) -> bool:
    return any(day.year == year for day in _of_year(year).weekend_workdays)  # some belong to neighbouring years


@lru_cache(maxsize=16)
def _of_year(year: int) -> "holidays.HolidayBase":
    import holidays  # noqa: PLC0415  # only disputes need it, and it takes a thirtieth of a process's start

    return holidays.country_holidays("CN", years=year)
