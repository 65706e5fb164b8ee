"""The promise of each ack mode: which answers a fault may undo, and how far back.

In a cluster only answers about the lanes of the master that was struck may be undone, and only in `memory` mode:

- killed: what it answered, and its replica may not have had, when it died;
- stopped: the same, and what it answered when it went on, until it knew that it was replaced;
- cut off from the others: what it answered from then on, until it refused, too.

Ordered failovers and moves undo nothing. In `replica` and `ledger` mode nothing is ever undone.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from engine.ids import lane_of
from loadtest.chaos.history import Asked, Carried, Claim, Fault, Record, Struck
from loadtest.chaos.schedule import LOSSES, Kind

FSYNC_S_MAX = 3.0
"""With ``appendfsync everysec`` Redis forces its log to disk each second. If that takes long, it delays even writing
the log by up to two more seconds. Answers in this time may be lost if it is killed."""
FORGOTTEN_S_MAX = 2.0
"""A process goes on reporting remembered shares for this long after a lane was rebuilt."""
_DURABLE, _SYNCED, _MEMORY = "ledger", "fsync", "memory"


@dataclass(frozen=True, slots=True)
class _Window:
    """Answers within this time may be undone. ``lanes`` empty: of every lane."""

    from_s: float
    until_s: float
    kind: str
    lanes: frozenset[int] = frozenset()

    def holds(self, packet_id: str, asked: Asked) -> bool:
        """Whether it can have been answered within."""
        is_then = asked.asked_s <= self.until_s and asked.answered_s >= self.from_s
        return is_then and (not self.lanes or lane_of(packet_id) in self.lanes)


class Promise:
    """One run's promise, from its mode and its faults."""

    def __init__(self, ack: str, records: Iterable[Record]) -> None:
        self._windows: list[_Window] = []
        self._repeating: list[_Window] = []
        self._reopening: list[_Window] = []
        carried_s = [0.0]
        for record in records:
            if isinstance(record, Carried):
                carried_s.append(record.at_s)
            elif isinstance(record, Struck):
                self._add_struck(ack, record)
            elif isinstance(record, Fault) and record.undoes:  # recorded at its end: later changes were carried over
                self._add(ack, record, carried_s[bisect_right(carried_s, record.began_s) - 1])

    def may_undo(self, packet_id: str, asked: Asked) -> bool:
        """Whether what this answer acknowledged may be undone."""
        return self.undone_by(packet_id, asked) is not None

    def undone_by(self, packet_id: str, asked: Asked) -> str | None:
        """The kind of fault that may undo what this answer acknowledged. None: it must stand."""
        is_repeat = isinstance(asked, Claim) and asked.outcome == "already_claimed"
        for window in (*self._windows, *self._repeating) if is_repeat else self._windows:
            if window.holds(packet_id, asked):
                return window.kind
        return None

    def may_reopen(self, packet_id: str, asked: Asked) -> bool:
        """Whether a packet that was reported as ended then may give shares again.

        It may have ended by claims that were never acknowledged and are lost. This is possible in every mode.
        """
        return any(window.holds(packet_id, asked) for window in self._reopening)

    def _add(self, ack: str, fault: Fault, carried_s: float) -> None:
        if fault.kind in LOSSES:  # everything that the ledger did not have yet
            window = _Window(carried_s, fault.ended_s + FORGOTTEN_S_MAX, fault.kind)
            self._reopening.append(window)
            if ack != _DURABLE:
                self._windows.append(window)
        elif fault.kind == Kind.KILL:
            window = _Window(fault.began_s - FSYNC_S_MAX, fault.ended_s, fault.kind)
            if ack != _SYNCED:
                self._reopening.append(window)
            if ack not in (_SYNCED, _DURABLE):
                self._windows.append(window)

    def _add_struck(self, ack: str, struck: Struck) -> None:
        lanes = frozenset(struck.lanes)
        match struck.kind:
            case _ if not lanes:
                return
            case Kind.KILL if not struck.is_replaced:  # it came back with its own log
                times = [(struck.struck_s - FSYNC_S_MAX, struck.struck_s)]
            case _ if not struck.is_replaced:
                return
            case Kind.KILL:
                times = [(struck.replicated_s, struck.struck_s)]
            case Kind.STOP:
                times = [(struck.replicated_s, struck.struck_s), (struck.resumed_s, struck.refused_s)]
            case Kind.PARTITION:
                times = [(struck.replicated_s, struck.refused_s)]
            case _:
                return
        # Until every process has learnt of the change, one may report what it remembers of the old master.
        known_s = struck.whole_s + FORGOTTEN_S_MAX
        self._reopening.append(_Window(times[0][0], known_s, struck.kind, lanes))
        if ack == _MEMORY:
            self._windows += [_Window(from_s, until_s, struck.kind, lanes) for from_s, until_s in times]
            self._repeating.append(_Window(times[0][0], known_s, struck.kind, lanes))
