"""Failures of servers: each is counted. A failure is logged when it begins, then once per minute.

A silent server and a refusing server need different people, so all messages distinguish the two.
"""

import structlog

from engine.observability import metrics
from engine.observability.repeats import repeats

SILENT = "silent"

_log = structlog.get_logger(__name__)
for _server in ("redis", "postgres"):
    metrics.SERVER_FAILURES.labels(_server, SILENT)


def note(server: str, code: str, sentence: str) -> None:
    """Count a failure. ``code``: SILENT, or the error code in the server's answer."""
    metrics.SERVER_FAILURES.labels(server, code).inc()
    if times := repeats.times(("server", server, code)):
        event = "server_silent" if code == SILENT else "server_refuses"
        _log.error(event, server=server, code=code, error=sentence, times=times)
