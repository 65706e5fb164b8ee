"""What servers fail at: counted each time, logged when it begins and then once a minute.

A server that is silent and one that refuses need different people, so they have different words everywhere.
"""

import structlog

from engine.observability import metrics
from engine.observability.repeats import repeats

SILENT = "silent"

_log = structlog.get_logger(__name__)


def note(server: str, code: str, sentence: str) -> None:
    """Count a failure. ``code``: SILENT, or the error code that the server answered with."""
    metrics.SERVER_FAILURES.labels(server, code).inc()
    if times := repeats.times(("server", server, code)):
        event = "server_silent" if code == SILENT else "server_refuses"
        _log.error(event, server=server, code=code, error=sentence, times=times)
