"""One second of the storm, and many seconds as one."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from engine.observability.metrics import HTTP_SECONDS

BOUNDS_S: Sequence[float] = tuple(HTTP_SECONDS.bounds)
"""The upper bounds of the buckets in which requests are counted by their time. The last one is infinite."""
QUANTILES = {"p50_ms": 0.50, "p95_ms": 0.95, "p99_ms": 0.99}
ELAPSED = "elapsed_ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What happened in the ``elapsed_ms`` before ``at_ms``. ``elapsed_ms`` None: nobody knows, the charts have a gap.

    ``counts``: how often what happened, by name; what is 0 is left out. ``gauges``: how it was at the end.
    ``buckets``: how many requests took how long, one number per bound in ``BOUNDS_S``; empty if there were none.
    """

    at_ms: int
    elapsed_ms: int | None
    counts: Mapping[str, float] = field(default_factory=dict)
    gauges: Mapping[str, float] = field(default_factory=dict)
    buckets: Sequence[int] = ()

    def values(self) -> dict[str, float | None]:
        """Everything by name, with the quantiles. What is not there is 0 if it is a count, else unknown."""
        if self.elapsed_ms is None:
            return {}
        return {ELAPSED: self.elapsed_ms, **self.counts, **self.gauges, **quantiles(self.buckets)}


def gap(at_ms: int) -> Point:
    """A second of which nothing is known."""
    return Point(at_ms=at_ms, elapsed_ms=None)


def together(points: Sequence[Point]) -> Point:
    """Many seconds as one: what was counted is added up; of what was measured the worst counts.

    If nothing is known of any of them, nothing is known of the whole.
    """
    known = [point for point in points if point.elapsed_ms is not None]
    if not known:
        return gap(points[-1].at_ms)
    counts: Counter[str] = Counter()
    gauges: dict[str, float] = {}
    for point in known:
        counts.update(point.counts)
        for name, value in point.gauges.items():
            gauges[name] = max(value, gauges.get(name, value))
    return Point(
        at_ms=points[-1].at_ms,
        elapsed_ms=sum(point.elapsed_ms or 0 for point in known),
        counts=dict(counts),
        gauges=gauges,
        buckets=added(point.buckets for point in known),
    )


def added(all_buckets: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """Buckets of several seconds as those of one."""
    filled = [buckets for buckets in all_buckets if buckets]
    return tuple(map(sum, zip(*filled, strict=True)))


def quantiles(buckets: Sequence[int]) -> dict[str, float | None]:
    """Quantiles in milliseconds, as Prometheus computes them: even within a bucket. None if nothing was counted.

    What lies beyond the last finite bound counts as that bound.
    """
    total = sum(buckets)
    if not total:
        return dict.fromkeys(QUANTILES)
    return {name: round(_quantile(buckets, total * part) * 1_000, 3) for name, part in QUANTILES.items()}


def _quantile(buckets: Sequence[int], rank: float) -> float:
    seen, below_s = 0, 0.0
    for count, bound_s in zip(buckets, BOUNDS_S, strict=True):
        if seen + count >= rank and count:
            return below_s if bound_s == BOUNDS_S[-1] else below_s + (bound_s - below_s) * (rank - seen) / count
        seen += count
        below_s = bound_s
    return BOUNDS_S[-2]
