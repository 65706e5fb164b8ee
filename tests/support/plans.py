"""Plans of China's working days as they come out, year by year."""

from datetime import date

import holidays
import pytest

from engine.calendar import working_days


def planned_until(last_year: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the plans up to a year be out, whatever this release of the calendar knows.

    The plan of 2027 is made up: the week after New Year is free, and the Saturday before it and after it are not.
    """

    def of_year(year: int) -> holidays.HolidayBase:
        calendar = holidays.country_holidays("CN", years=year)
        if year > last_year:
            calendar.weekend_workdays = set()
        elif year == 2027:
            calendar.weekend_workdays = {date(2027, 1, 9)}
            calendar.update({date(2027, 1, day): "New Year" for day in range(4, 9)})
        return calendar

    monkeypatch.setattr(working_days, "_of_year", of_year)
