"""China's working days: no weekends and no public holidays, but for the weekends that make up for holidays."""

from datetime import date, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import holidays


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


@lru_cache(maxsize=16)
def _of_year(year: int) -> "holidays.HolidayBase":
    import holidays  # noqa: PLC0415  # only disputes need it: a thirtieth of every process's start

    return holidays.country_holidays("CN", years=year)
