"""How long lanes did not serve: after each fault of a cluster, the longest time without a share given in a lane."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

from engine.ids import lane_of
from loadtest.chaos.history import Claim, Record, Struck

OTHERS = "lanes of other masters"


@dataclass(slots=True)
class Pauses:
    """Of one kind of fault. ``pauses_s``: one per fault and lane. ``replaced``, ``again``: as in ``Struck``, in all."""

    faults: int = 0
    replaced: int = 0
    again: int = 0
    pauses_s: list[float] = field(default_factory=list)

    def line(self) -> str:
        """The figures as a line for reports."""
        if not self.pauses_s:
            return "none"
        return f"median {median(self.pauses_s):.2f} s, at most {max(self.pauses_s):.2f} s"


def pauses(records: Iterable[Record]) -> dict[str, Pauses]:
    """Kind of fault -> the pauses of the lanes that it struck; and of all others, under ``OTHERS``.

    A share that somebody had already does not count: a process may remember it.
    """
    given: defaultdict[int, list[float]] = defaultdict(list)
    faults: list[Struck] = []
    for record in records:
        if isinstance(record, Claim) and record.outcome == "claimed":
            given[lane_of(record.packet_id)].append(record.answered_s)
        elif isinstance(record, Struck):
            faults.append(record)
    found: defaultdict[str, Pauses] = defaultdict(Pauses)
    for times_s in given.values():
        times_s.sort()
    for struck in faults:
        found[struck.kind].faults += 1
        found[struck.kind].replaced += struck.is_replaced
        found[struck.kind].again += struck.again
        for lane, times_s in given.items():
            kind = struck.kind if lane in struck.lanes else OTHERS
            found[kind].pauses_s.append(_longest_s(times_s, struck.began_s, struck.whole_s))
    return dict(found)


def _longest_s(times_s: list[float], from_s: float, until_s: float) -> float:
    """The longest time between two of them that begins in this time. The first begins at ``from_s``."""
    first, last = bisect_left(times_s, from_s), bisect_left(times_s, until_s)
    within = [from_s, *times_s[first:last]]
    after = times_s[last] if last < len(times_s) else until_s
    return max(later - earlier for earlier, later in zip(within, [*within[1:], after], strict=True))
