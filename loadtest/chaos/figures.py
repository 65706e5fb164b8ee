"""A history in numbers."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from loadtest.chaos.findings import REFUSED
from loadtest.chaos.history import Asked, Carried, Claim, Errand, Fault, Record, Struck, Tap
from loadtest.chaos.schedule import Kind
from loadtest.chaos.serving import Pauses, pauses


@dataclass(slots=True)
class Figures:
    """``outage_s``: the longest time without an answered claim. It began at ``outage_from_s``.

    ``pauses``: those of a cluster's lanes, by the kind of fault.
    """

    requests: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    taps: Counter[str] = field(default_factory=Counter)
    errands: Counter[str] = field(default_factory=Counter)
    outage_s: float = 0.0
    outage_from_s: float = 0.0
    lasted_s: float = 0.0
    pauses: dict[str, Pauses] = field(default_factory=dict)


def figures(records: Iterable[Record]) -> Figures:
    """Count the records, which are iterated twice. Each claim of a batch counts."""
    found = Figures(pauses=pauses(records))
    answered_s: float | None = None
    began_s: float | None = None
    for record in records:
        if isinstance(record, Carried | Struck):
            continue
        if isinstance(record, Fault):
            counter, name = (found.kills, record.target) if record.kind == Kind.KILL else (found.others, record.kind)
            counter[name] += 1
            continue
        found.requests += 1
        began_s = record.asked_s if began_s is None else began_s
        found.lasted_s = record.answered_s - began_s
        if record.status in REFUSED:
            found.refusals[_refusal(record)] += 1
        if isinstance(record, Errand) and record.status in (200, 201):
            found.errands[record.what] += 1
        if isinstance(record, Tap) and record.status == 200:
            found.taps[record.outcome] += 1
        if isinstance(record, Claim) and record.status == 200:
            found.outcomes[record.outcome] += 1
            if answered_s is not None and record.answered_s - answered_s > found.outage_s:
                found.outage_s, found.outage_from_s = record.answered_s - answered_s, answered_s
            answered_s = record.answered_s
    return found


def _refusal(asked: Asked) -> str:
    return f"{asked.status} {asked.code}" if asked.status else f"no answer ({asked.code})"
