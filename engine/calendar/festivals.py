"""Days on which people give more: 14 February, 20 May, and Qixi, the 7th day of the 7th month in the Chinese calendar.

A setting names them, as ``MM-DD`` or ``qixi``. Days are China's.
"""

import re
from datetime import date
from functools import lru_cache

from lunardate import LunarDate

QIXI = "qixi"
NEW_YEAR, DRAGON_BOAT, MID_AUTUMN = (1, 1), (5, 5), (8, 15)
"""Days of the Chinese calendar: month and day. A leap month repeats no festival."""
_QIXI = (7, 7)
_DAY = re.compile(r"(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])", re.ASCII)
_LEAP_YEAR = 2028


def festivals_in(text: str) -> tuple[str, ...]:
    """The festivals in a setting, which separates them with commas. Raises ValueError naming an invalid one."""
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in names:
        if name != QIXI and not _is_day(name):
            raise ValueError(f"{name!r} is neither a day, as 02-14, nor qixi")
    return names


def is_festival(day: date, names: tuple[str, ...]) -> bool:
    """Whether ``day`` is one of the festivals."""
    return f"{day:%m-%d}" in names or (QIXI in names and day == qixi(day.year))


def qixi(year: int) -> date | None:
    """A year's Qixi. None outside the calendar's tables (1900 to 2099)."""
    return lunar_day(year, *_QIXI)


@lru_cache(maxsize=32)
def lunar_day(year: int, month: int, day: int) -> date | None:
    """A day of the Chinese calendar. None outside its tables (1900 to 2099)."""
    try:
        solar: date = LunarDate(year, month, day).to_solar_date()
    except ValueError:
        return None
    return solar


def _is_day(text: str) -> bool:
    if not _DAY.fullmatch(text):
        return False
    try:
        date.fromisoformat(f"{_LEAP_YEAR}-{text}")
    except ValueError:
        return False
    return True
