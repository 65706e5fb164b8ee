"""Counts requests cheaply: in plain lists, which are reported to the metrics a few times per second."""

from bisect import bisect_left
from collections import defaultdict

from engine.observability.metrics import HTTP_REQUESTS, HTTP_SECONDS


class RouteMeter:
    """The requests of one method and route since the last flush.

    ``at_once``: those answered with 200 as soon as they were read. They are counted here and not by ``note``.
    """

    def __init__(self, method: str, route: str) -> None:
        self._method, self._route = method, route
        self._bounds = HTTP_SECONDS.bounds
        self._clear()

    def _clear(self) -> None:
        self._statuses: defaultdict[int, int] = defaultdict(int)
        self._buckets = [0] * len(self._bounds)
        self._seconds = 0.0
        self.at_once = 0

    def note(self, status: int, seconds: float) -> None:
        """Count one request that was answered after ``seconds``."""
        self._statuses[status] += 1
        self._buckets[bisect_left(self._bounds, seconds)] += 1
        self._seconds += seconds

    def flush(self) -> None:
        """Report everything to the metrics."""
        if self.at_once:
            self._statuses[200] += self.at_once
            self._buckets[0] += self.at_once
        if not self._statuses:
            return
        for status, count in self._statuses.items():
            HTTP_REQUESTS.labels(self._method, self._route, str(status)).inc(count)
        HTTP_SECONDS.labels(self._method, self._route).observe_counted(self._buckets, self._seconds)
        self._clear()


class Meter:
    """The requests of a process, by method and route."""

    def __init__(self) -> None:
        self._routes: dict[tuple[str, str], RouteMeter] = {}

    def of(self, method: str, route: str) -> RouteMeter:
        """The meter of this method and route."""
        meter = self._routes.get((method, route))
        if meter is None:
            meter = self._routes[method, route] = RouteMeter(method, route)
        return meter

    def flush(self) -> None:
        """Add everything to the metrics."""
        for meter in self._routes.values():
            meter.flush()
