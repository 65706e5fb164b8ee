"""The packets that the users of one locust process know of. What one process sends, all are told of."""

from collections import defaultdict, deque
from dataclasses import asdict, dataclass
from typing import Any

_REMEMBERED_MAX = 8


@dataclass(frozen=True, slots=True)
class Announcement:
    """A packet was sent to a group; ``group`` None: to everyone, as a rain."""

    packet_id: str
    group: int | None

    def as_message(self) -> dict[str, Any]:
        """As locust carries it from process to process."""
        return asdict(self)


class Board:
    """Announcements, the newest few of each group, and the newest rain."""

    def __init__(self) -> None:
        self._packets: defaultdict[int, deque[tuple[int, str]]] = defaultdict(lambda: deque(maxlen=_REMEMBERED_MAX))
        self._count = 0
        self.rain: str | None = None

    def announce(self, announcement: Announcement) -> None:
        """Note a packet."""
        self._count += 1
        if announcement.group is None:
            self.rain = announcement.packet_id
        else:
            self._packets[announcement.group].append((self._count, announcement.packet_id))

    def next_for(self, group: int, after: int) -> tuple[int, str] | None:
        """The oldest packet of a group that came after the ``after``-th announcement, with its own number; 0: any."""
        return next((entry for entry in self._packets[group] if entry[0] > after), None)
