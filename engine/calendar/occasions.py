"""Which festival a day in China is, by the solar and the Chinese calendar. What people send on it is in `packets`."""

from datetime import date, timedelta
from enum import StrEnum

from engine.calendar.festivals import DRAGON_BOAT, MID_AUTUMN, NEW_YEAR, lunar_day, qixi

_LANTERN = 14
"""The Lantern Festival is the 15th day of the Chinese year, and the last of the Spring Festival."""


class Occasion(StrEnum):
    """A festival on which people send packets."""

    SPRING_FESTIVAL_EVE = "spring_festival_eve"  # 除夕
    SPRING_FESTIVAL = "spring_festival"  # 春节, the year's first fourteen days
    LANTERN_FESTIVAL = "lantern_festival"  # 元宵节
    DRAGON_BOAT_FESTIVAL = "dragon_boat_festival"  # 端午节
    QIXI = "qixi"  # 七夕
    MID_AUTUMN_FESTIVAL = "mid_autumn_festival"  # 中秋节
    NEW_YEAR = "new_year"  # 元旦
    VALENTINES_DAY = "valentines_day"  # 情人节
    MAY_20 = "may_20"  # 五二零, which sounds like "I love you"
    NATIONAL_DAY = "national_day"  # 国庆节


_SOLAR = {
    (1, 1): Occasion.NEW_YEAR,
    (2, 14): Occasion.VALENTINES_DAY,
    (5, 20): Occasion.MAY_20,
    (10, 1): Occasion.NATIONAL_DAY,
}


def occasions_of(day: date) -> tuple[Occasion, ...]:
    """The festivals of a day, at most two: that of the Chinese calendar comes first. Empty on an ordinary day.

    Beyond the Chinese calendar's tables (1900 to 2099) only solar festivals are known.
    """
    solar = _SOLAR.get((day.month, day.day))
    return tuple(occasion for occasion in (_lunar(day), solar) if occasion is not None)


def _lunar(day: date) -> Occasion | None:
    # These festivals are in the first eight months, so each is in the solar year that has the Chinese year's number.
    first = lunar_day(day.year, *NEW_YEAR)
    if first is None:
        return None
    if day == first - timedelta(days=1):
        return Occasion.SPRING_FESTIVAL_EVE
    if 0 <= (day - first).days <= _LANTERN:
        return Occasion.LANTERN_FESTIVAL if (day - first).days == _LANTERN else Occasion.SPRING_FESTIVAL
    if day == lunar_day(day.year, *DRAGON_BOAT):
        return Occasion.DRAGON_BOAT_FESTIVAL
    if day == qixi(day.year):
        return Occasion.QIXI
    return Occasion.MID_AUTUMN_FESTIVAL if day == lunar_day(day.year, *MID_AUTUMN) else None
