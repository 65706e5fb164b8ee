"""What each ack mode promises: which answers a fault may take back, and how far back it reaches."""

from collections.abc import Iterable
from dataclasses import dataclass

from loadtest.chaos.history import Carried, Fault, Record
from loadtest.chaos.schedule import LOSSES, Kind

FSYNC_S_MAX = 3.0
"""With ``appendfsync everysec`` Redis forces its log to disk each second, and puts off even writing it by up to two
more while that takes long. What it answered meanwhile may be gone when it is killed."""
_DURABLE = "ledger"
_SYNCED = ("fsync", "replica", "ledger")


@dataclass(frozen=True, slots=True)
class _Window:
    """Answers of these seconds may be taken back."""

    from_s: float
    until_s: float


class Promise:
    """Of one run, by its mode and its faults."""

    def __init__(self, ack: str, records: Iterable[Record]) -> None:
        self._windows: list[_Window] = []
        carried_s = 0.0
        for record in records:
            if isinstance(record, Carried):
                carried_s = record.at_s
            elif isinstance(record, Fault) and record.undoes:
                self._add(ack, record, carried_s)

    def may_undo(self, asked_s: float, answered_s: float) -> bool:
        """Whether what was answered in this time may be taken back."""
        return any(asked_s <= window.until_s and answered_s >= window.from_s for window in self._windows)

    def _add(self, ack: str, fault: Fault, carried_s: float) -> None:
        if fault.kind in LOSSES and ack != _DURABLE:  # all that the ledger had not yet
            self._windows.append(_Window(min(carried_s, fault.began_s), fault.ended_s))
        elif fault.kind == Kind.KILL and ack not in _SYNCED:
            self._windows.append(_Window(fault.began_s - FSYNC_S_MAX, fault.ended_s))
