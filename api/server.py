"""One API process: the application on granian's embedded server, until it is told to stop."""

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Callable

import structlog
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server
from starlette.types import ASGIApp

from api.app import create_app
from engine import metrics
from engine.errors import OperatorError
from engine.ports import family_of
from engine.settings import Settings

STOP_S_MAX = 15
"""A process that has been told to stop ends within this time, answered or not."""
CONNECTIONS_WAITING_MAX = 4_096
_HEADER_READ_MS_MAX = 10_000
_BUFFER_BYTES_MAX = 65_536
_GC_THRESHOLDS = (50_000, 20, 50)
_LOGS_OF_GRANIAN = {"handlers": {}, "formatters": {}, "loggers": {"_granian": {"propagate": True}}}
"""Its errors go where all logs go (``engine.logs``), not to a handler of its own."""

_log = structlog.get_logger(__name__)


async def serve(settings: Settings, ready: Callable[[], None] | None = None) -> None:
    """Serve HTTP on ``settings.host``:``settings.port`` until SIGTERM or SIGINT; what was begun is answered first.

    ``ready`` is called when nothing is left to do but listen. Several processes may share the port. Raises
    OperatorError when the port, the secret or a server cannot be used.
    """
    _check_address(settings)
    app = create_app(settings)
    # The lifespan is run here and not by the server, so that a failure to start is an exception and not a log line.
    async with app.router.lifespan_context(app):
        server = _server(app, settings)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop)
        _spare_the_collector()
        metrics.PROCESS_STARTS.labels("serve").inc()
        _log.info("serving", host=settings.host, port=settings.port)
        if ready is not None:
            ready()
        await _run(server)
    _log.info("stopped")


def _server(app: ASGIApp, settings: Settings) -> Server:
    server = Server(
        app,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=_HEADER_READ_MS_MAX, max_buffer_size=_BUFFER_BYTES_MAX),
        websockets=False,
        backlog=CONNECTIONS_WAITING_MAX,
        log_level=LogLevels.error,
        log_dictconfig=_LOGS_OF_GRANIAN,
    )
    server.workers_kill_timeout = STOP_S_MAX
    return server


def _check_address(settings: Settings) -> None:
    """Raise OperatorError unless the address can be had (granian's own error for it is a page long)."""
    try:
        with socket.socket(family_of(settings.host)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            probe.bind((settings.host, settings.port))
    except OSError as error:
        raise OperatorError(f"Cannot listen on {settings.host} port {settings.port}: {error.strerror}.") from None


async def _run(server: Server) -> None:
    try:
        await server.serve()
    except TimeoutError:
        _log.warning("stopped before every request was answered", after_s=STOP_S_MAX)
    finally:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError, RuntimeError):
                loop.remove_signal_handler(number)


def _spare_the_collector() -> None:
    """What lives for the whole process need not be looked at by every collection; and collections can be rarer."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
