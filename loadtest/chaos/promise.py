"""The promise of each ack mode: which answers a fault may undo, and how far back."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from loadtest.chaos.history import Carried, Fault, Record
from loadtest.chaos.schedule import LOSSES, Kind

FSYNC_S_MAX = 3.0
"""With ``appendfsync everysec`` Redis forces its log to disk each second. If that takes long, it delays even writing
the log by up to two more seconds. Answers in this time may be lost if it is killed."""
FORGOTTEN_S_MAX = 2.0
"""A process goes on reporting remembered shares for this long after a lane was rebuilt."""
_DURABLE, _SYNCED = "ledger", "fsync"


@dataclass(frozen=True, slots=True)
class _Window:
    """Answers within this time may be undone."""

    from_s: float
    until_s: float


class Promise:
    """One run's promise, from its mode and its faults."""

    def __init__(self, ack: str, records: Iterable[Record]) -> None:
        self._windows: list[_Window] = []
        self._reopening: list[_Window] = []
        carried_s = [0.0]
        for record in records:
            if isinstance(record, Carried):
                carried_s.append(record.at_s)
            elif isinstance(record, Fault) and record.undoes:  # recorded at its end: later changes were carried over
                self._add(ack, record, carried_s[bisect_right(carried_s, record.began_s) - 1])

    def may_undo(self, asked_s: float, answered_s: float) -> bool:
        """Whether a share that was acknowledged in this time may be undone."""
        return _is_in(self._windows, asked_s, answered_s)

    def may_reopen(self, asked_s: float, answered_s: float) -> bool:
        """Whether a packet that was reported as ended in this time may give shares again.

        It may have ended by claims that were never acknowledged and are lost. This is possible in every mode.
        """
        return _is_in(self._reopening, asked_s, answered_s)

    def _add(self, ack: str, fault: Fault, carried_s: float) -> None:
        if fault.kind in LOSSES:  # everything that the ledger did not have yet
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
