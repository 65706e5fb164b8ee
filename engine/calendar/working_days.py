"""China's working days: no weekends and no public holidays, but for the weekends that make up for holidays."""

from datetime import date, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import holidays

_NEW_YEAR_FROM = 25
"""From this day of December on, next year's plan counts as well."""


def working_day(after: date, number: int) -> date:
    """The ``number``-th working day after a day; the first is the next one."""
    if number < 1:
        raise ValueError("working days are counted from 1")
    day = after
    while number:
        day += timedelta(days=1)
        number -= is_working_day(day)
    return day


def is_working_day(day: date) -> bool:
    """Whether China works. Of years whose plan is not out yet, by the holidays that the law names."""
    return _of_year(day.year).is_working_day(day)


def is_planned(day: date) -> bool:
    """Whether it is certain if China works on a day.

    The State Council plans a year about November of the year before. A plan has always moved working days to weekends,
    and by that it is known; and the plan of a year may move days around its New Year, as it did on 29 December 2018.
    """
    return _has_plan(day.year) and (day < date(day.year, 12, _NEW_YEAR_FROM) or _has_plan(day.year + 1))


def _has_plan(year: int) -> bool:
    return any(day.year == year for day in _of_year(year).weekend_workdays)  # around New Year it has other years'


@lru_cache(maxsize=16)
def _of_year(year: int) -> "holidays.HolidayBase":
    import holidays  # noqa: PLC0415  # only disputes need it: a thirtieth of every process's start

    return holidays.country_holidays("CN", years=year)
