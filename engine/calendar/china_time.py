"""Days in China. Limits, statements and festivals use them."""

from datetime import UTC, date, datetime, timedelta, timezone

CHINA = timezone(timedelta(hours=8))


def today() -> date:
    """Today's date in China."""
    return datetime.now(UTC).astimezone(CHINA).date()


def day_of(at_ms: int) -> date:
    """A moment's date in China."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(CHINA).date()


def begin_ms(day: date) -> int:
    """The moment at which a day begins in China."""
    return int(datetime(day.year, day.month, day.day, tzinfo=CHINA).timestamp()) * 1000
