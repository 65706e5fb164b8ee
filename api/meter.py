"""Counting requests without paying for each one: kept in plain lists, handed to the metrics a few times a second."""

from bisect import bisect_left
from collections import defaultdict

from engine.metrics import HTTP_REQUESTS, HTTP_SECONDS


class Meter:
    """The requests since the last flush, by method, route and status."""

    def __init__(self) -> None:
        self._bounds = HTTP_SECONDS.bounds
        self._statuses: defaultdict[tuple[str, str, int], int] = defaultdict(int)
        self._buckets: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * len(self._bounds))
        self._seconds: defaultdict[tuple[str, str], float] = defaultdict(float)

    def note(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request was answered after ``seconds``."""
        key = (method, route)
        self._statuses[method, route, status] += 1
        self._buckets[key][bisect_left(self._bounds, seconds)] += 1
        self._seconds[key] += seconds

    def flush(self) -> None:
        """Hand everything to the metrics."""
        for (method, route, status), count in self._statuses.items():
            HTTP_REQUESTS.labels(method, route, str(status)).inc(count)
        for key, counts in self._buckets.items():
            HTTP_SECONDS.labels(*key).observe_counted(counts, self._seconds[key])
        self._statuses.clear()
        self._buckets.clear()
        self._seconds.clear()
