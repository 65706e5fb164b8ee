"""A day for a test to be in: limits, statements and reconciliations go by China's days, and a day ends at 16:00 UTC."""

import time
from datetime import date, timedelta

from engine.calendar.china_time import begin_ms, today
from tests.support.waiting import wait_until

LENGTH_S = 60
"""How long a test has before its day ends. It may wait as long for the next day: both fit in its time-out of 120 s."""

_CLOSED_AFTER_MS = 2_000
"""By then the day before is closed (engine/wallets/closing.py waits a second after its end)."""


async def whole_day() -> date:
    """China's day, if it goes on for a minute at least and the one before is closed; else wait until that is so.

    Call it before anything is made that the test looks for. Months and years begin with a day, so it does for them too.
    """
    day = await wait_until(_day_with_a_minute_left, timeout_s=LENGTH_S + 30, what="the next day")
    assert day is not None
    return day


def _day_with_a_minute_left() -> date | None:
    day = today()
    ends_ms = begin_ms(day + timedelta(days=1))
    now_ms = time.time() * 1_000
    return day if begin_ms(day) + _CLOSED_AFTER_MS <= now_ms <= ends_ms - LENGTH_S * 1_000 else None
