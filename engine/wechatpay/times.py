"""Moments as WeChat Pay writes them, in China's time."""

from datetime import UTC, datetime

from engine.calendar.china_time import CHINA


def china_time(at_ms: int) -> str:
    """In the second version: 2015-04-21 20:00:00."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(CHINA).strftime("%Y-%m-%d %H:%M:%S")


def rfc3339(at_ms: int) -> str:
    """In the third version: 2015-05-20T13:29:35+08:00."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(CHINA).isoformat()
