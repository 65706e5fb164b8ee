"""Figures from raw runs: medians with their spread, and ratios within a round."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """The result of several rounds: the median, the minimum, the maximum, and the number of rounds."""

    median: float
    least: float
    most: float
    rounds: int

    def text(self, form: str = ",.0f") -> str:
        """The figure for a report: the median, with the spread in brackets."""
        if self.rounds == 1:
            return f"{self.median:{form}}"
        return f"{self.median:{form}} ({self.least:{form}}–{self.most:{form}})"


def figure(values: Iterable[float]) -> Figure | None:
    """The figure of some values, or None if there are none."""
    known = sorted(values)
    if not known:
        return None
    return Figure(statistics.median(known), known[0], known[-1], len(known))


def ratio(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Figure | None:
    """The ratios within each round in which both have a value (round -> value)."""
    return figure(value / theirs[number] for number, value in ours.items() if theirs.get(number))


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The value that ``share`` (0 to 1) of the values do not exceed. The values are sorted, and at least one."""
    place = min(len(sorted_values) - 1, max(0, -(-int(share * 1_000_000) * len(sorted_values) // 1_000_000) - 1))
    return sorted_values[place]
