"""What servers fail at: counted each time, logged when it begins and then once a minute.

A server that is silent and one that refuses need different people, so they have different words everywhere.
"""

from collections.abc import Callable
from time import monotonic

import structlog

from engine.observability import metrics

SILENT = "silent"
_SAID_AGAIN_S = 60.0

_log = structlog.get_logger(__name__)


class ServerFailures:
    """One process's. ``now_s``: a clock that never goes back."""

    def __init__(self, now_s: Callable[[], float] = monotonic) -> None:
        self._now_s = now_s
        self._said: dict[tuple[str, str], tuple[float, int]] = {}  # when it was logged, and how often it failed since

    def note(self, server: str, code: str, sentence: str) -> None:
        """Count a failure. ``code``: SILENT, or the error code that the server answered with."""
        metrics.SERVER_FAILURES.labels(server, code).inc()
        key, now_s = (server, code), self._now_s()
        said_s, times = self._said.get(key, (-_SAID_AGAIN_S, 0))
        if now_s - said_s < _SAID_AGAIN_S:
            self._said[key] = said_s, times + 1
            return
        self._said[key] = now_s, 0
        event = "server_silent" if code == SILENT else "server_refuses"
        _log.error(event, server=server, code=code, error=sentence, times=times + 1)


server_failures = ServerFailures()
