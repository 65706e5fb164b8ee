"""The packets that one locust process's users know. Every process announces its packets to all others."""

from collections import defaultdict, deque
from dataclasses import asdict, dataclass
from typing import Any

_REMEMBERED_MAX = 8


@dataclass(frozen=True, slots=True)
class Announcement:
    """A packet was sent to a group. ``group`` None: to everyone, as a rain."""

    packet_id: str
    group: int | None

    def as_message(self) -> dict[str, Any]:
        """The form in which locust sends it between processes."""
        return asdict(self)


class Board:
    """The newest few announcements per group, and the newest rain."""

    def __init__(self) -> None:
        self._packets: defaultdict[int, deque[tuple[int, str]]] = defaultdict(lambda: deque(maxlen=_REMEMBERED_MAX))
        self._count = 0
        self.rain: str | None = None

    def announce(self, announcement: Announcement) -> None:
        """Record a packet."""
        self._count += 1
        if announcement.group is None:
            self.rain = announcement.packet_id
        else:
            self._packets[announcement.group].append((self._count, announcement.packet_id))

    def next_for(self, group: int, after: int) -> tuple[int, str] | None:
        """A group's oldest packet after the ``after``-th announcement (0: any), with its own number."""
        return next((entry for entry in self._packets[group] if entry[0] > after), None)
