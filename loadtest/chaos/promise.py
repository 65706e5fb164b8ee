"""What each ack mode promises: which answers a fault may take back, and how far back it reaches."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from loadtest.chaos.history import Carried, Fault, Record
from loadtest.chaos.schedule import LOSSES, Kind

FSYNC_S_MAX = 3.0
"""With ``appendfsync everysec`` Redis forces its log to disk each second, and puts off even writing it by up to two
more while that takes long. What it answered meanwhile may be gone when it is killed."""
FORGOTTEN_S_MAX = 2.0
"""A process that remembers what had been given goes on saying so this long after a lane was rebuilt."""
_DURABLE, _SYNCED = "ledger", "fsync"


@dataclass(frozen=True, slots=True)
class _Window:
    """Answers of these seconds may be taken back."""

    from_s: float
    until_s: float


class Promise:
    """Of one run, by its mode and its faults."""

    def __init__(self, ack: str, records: Iterable[Record]) -> None:
        self._windows: list[_Window] = []
        self._reopening: list[_Window] = []
        carried_s = [0.0]
        for record in records:
            if isinstance(record, Carried):
                carried_s.append(record.at_s)
            elif isinstance(record, Fault) and record.undoes:  # noted when it was over: not what was carried meanwhile
                self._add(ack, record, carried_s[bisect_right(carried_s, record.began_s) - 1])

    def may_undo(self, asked_s: float, answered_s: float) -> bool:
        """Whether a share that was told in this time may be taken back."""
        return _is_in(self._windows, asked_s, answered_s)

    def may_reopen(self, asked_s: float, answered_s: float) -> bool:
        """Whether a packet of which somebody was told in this time that it is over may give again.

        It may have ended by claims that nobody was told of and that are lost, in every mode.
        """
        return _is_in(self._reopening, asked_s, answered_s)

    def _add(self, ack: str, fault: Fault, carried_s: float) -> None:
        if fault.kind in LOSSES:  # all that the ledger had not yet
            window = _Window(carried_s, fault.ended_s + FORGOTTEN_S_MAX)
            self._reopening.append(window)
            if ack != _DURABLE:
                self._windows.append(window)
        elif fault.kind == Kind.KILL:
            window = _Window(fault.began_s - FSYNC_S_MAX, fault.ended_s)
            if ack != _SYNCED:
                self._reopening.append(window)
            if ack not in (_SYNCED, _DURABLE):
                self._windows.append(window)


def _is_in(windows: Iterable[_Window], asked_s: float, answered_s: float) -> bool:
    return any(asked_s <= window.until_s and answered_s >= window.from_s for window in windows)
