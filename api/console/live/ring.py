"""The last quarter of an hour second by second, and the last day in steps of ten seconds."""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from api.console.live.points import ELAPSED, QUANTILES, Point, gap, together

STEP_MS, LONG_STEP_MS = 1_000, 10_000
POINTS_MAX, LONG_POINTS_MAX = 15 * 60, 24 * 360
SHORT_WINDOW_S = POINTS_MAX * STEP_MS // 1_000
LATE_MS = 3 * STEP_MS
"""A point that comes later than this leaves a gap before it: a line would say that somebody has looked."""
_UNKNOWN_UNLESS_THERE = frozenset(QUANTILES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Points as columns: ``series[name][i]`` is of ``at_ms[i]``. A gap is None in every series."""

    step_ms: int
    at_ms: Sequence[int]
    series: dict[str, list[float | None]]

    def as_json(self) -> dict[str, Any]:
        """For ``/live.json``."""
        return {"step_ms": self.step_ms, "at_ms": self.at_ms, "series": self.series}


class Ring:
    """Keeps points. Times only grow: a clock that is set back does not lead anybody to ask for what they have."""

    def __init__(self) -> None:
        self._points: deque[Point] = deque(maxlen=POINTS_MAX)
        self._long: deque[Point] = deque(maxlen=LONG_POINTS_MAX)
        self._step: list[Point] = []

    @property
    def newest_ms(self) -> int:
        """The time of the newest point, 0 if there is none."""
        return self._points[-1].at_ms if self._points else 0

    def add(self, point: Point) -> None:
        """Add the newest point, with a gap before it if it comes late."""
        if self._points and point.at_ms - self.newest_ms > LATE_MS:
            self._keep(gap(self.newest_ms + STEP_MS))
        self._keep(point)

    def _keep(self, point: Point) -> None:
        if self._step and point.at_ms // LONG_STEP_MS != self._step[0].at_ms // LONG_STEP_MS:
            self._long.append(together(self._step))
            self._step = []
        self._step.append(point)
        self._points.append(point)

    def window(self, window_s: int, after_ms: int = 0) -> Window:
        """The points of the last ``window_s`` seconds that are later than ``after_ms``."""
        is_short = window_s <= SHORT_WINDOW_S
        points = self._points if is_short else self._long
        after_ms = max(after_ms, self.newest_ms - window_s * 1_000)
        first = bisect_right(points, after_ms, key=_at_ms)
        return _columns(list(islice(points, first, None)), STEP_MS if is_short else LONG_STEP_MS)


def _at_ms(point: Point) -> int:
    return point.at_ms


def _columns(points: Sequence[Point], step_ms: int) -> Window:
    rows = [point.values() for point in points]
    counted = {name for point in points for name in point.counts}
    names = sorted({name for row in rows for name in row}, key=lambda name: (name != ELAPSED, name))
    series: dict[str, list[float | None]] = {}
    for name in names:
        if_absent = 0 if name in counted else None
        series[name] = [row.get(name, if_absent) if row else None for row in rows]
    return Window(step_ms=step_ms, at_ms=[point.at_ms for point in points], series=series)
