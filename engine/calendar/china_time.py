"""Days are China's: limits, statements and festivals go by them."""

from datetime import UTC, date, datetime, timedelta, timezone

CHINA = timezone(timedelta(hours=8))


def today() -> date:
    """The day it is in China."""
    return datetime.now(UTC).astimezone(CHINA).date()


def day_of(at_ms: int) -> date:
    """The day in China of a moment."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(CHINA).date()


def begin_ms(day: date) -> int:
    """The moment at which a day begins in China."""
    return int(datetime(day.year, day.month, day.day, tzinfo=CHINA).timestamp()) * 1000
