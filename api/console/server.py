"""The console's process: the application on uvicorn, until a stop signal."""

import asyncio
import contextlib
import ipaddress
import signal
import socket
import ssl
from collections.abc import Callable, Iterator

import h11
import structlog
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.console.app import create_app
from engine.access import tls
from engine.errors import OperatorError
from engine.observability import metrics
from engine.settings import Settings
from engine.supervision.hangup import Hangup
from engine.supervision.ports import family_of

DEFAULT_PORT = 8081
STOP_S_MAX = 10
CONNECTIONS_MAX = 200
HEAD_BYTES_MAX = 32_768
KEEP_ALIVE_S = 65
HEAD_S_MAX = 10.0
"""How long a request may take until its head is complete."""

_log = structlog.get_logger(__name__)


def check_address(settings: Settings) -> None:
    """Raise OperatorError if passwords would go over a network without TLS."""
    family_of(settings.console_host)
    is_loopback = ipaddress.ip_address(settings.console_host).is_loopback
    if not is_loopback and not tls.is_on(settings) and settings.console_origin is None:
        raise OperatorError(
            f"The console does not listen on {settings.console_host} without TLS, because others could read passwords: "
            "set HONGBAO_TLS_CERTIFICATE and HONGBAO_TLS_KEY, or put a proxy with TLS before it and set "
            "HONGBAO_CONSOLE_ORIGIN to its https:// address."
        )


async def serve(settings: Settings, ready: Callable[[], None] | None = None) -> None:
    """Serve the console until SIGTERM or SIGINT. Requests in progress are answered. ``ready``: called once it listens.

    Raises OperatorError if the address, the certificate or a server cannot be used.
    """
    check_address(settings)
    context = tls.server_context(settings)
    port = DEFAULT_PORT if settings.console_port is None else settings.console_port
    with _listening(settings.console_host, port) as listener:
        app = create_app(settings, listener.getsockname()[1])
        async with app.router.lifespan_context(app):
            server = _Server(app, context, settings)
            with server.capture_signals():
                metrics.PROCESS_STARTS.labels("console").inc()
                _log.info("serving the console", host=settings.console_host, port=listener.getsockname()[1])
                if ready is not None:
                    ready()
                await server.serve([listener])
    _log.info("stopped")


class _Connection(H11Protocol):
    """uvicorn's, which waits for ever for a head: some sockets that say nothing would be all that there may be."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected. It may be silent for no longer than it may take for a head."""
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        """Something has arrived. What ends a head is looked at after it, so a slow head does not gain time by it."""
        super().data_received(data)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._forget()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Wait for the rest of a head, or of a body that nobody reads any more."""
        is_unread = self.conn.their_state is h11.SEND_BODY and self.cycle.response_complete
        if self.conn.their_state is not h11.IDLE and not is_unread:
            self._forget()
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_S_MAX, self.transport.abort)

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class _Server(uvicorn.Server):
    """uvicorn that returns after any stop signal. h11, because it bounds a request's head."""

    def __init__(self, app: Starlette, context: ssl.SSLContext | None, settings: Settings) -> None:
        config = uvicorn.Config(
            app,
            http=_Connection,
            h11_max_incomplete_event_size=HEAD_BYTES_MAX,
            lifespan="off",
            ws="none",
            access_log=False,
            log_config=None,
            log_level="error",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_S_MAX,
        )
        super().__init__(config)
        config.load()
        config.ssl = context
        self._settings, self._hangup = settings, Hangup()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own raises the signal again at the end, so that every stop would look like a crash."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        loop.add_signal_handler(signal.SIGHUP, self._handle_hangup)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _handle_hangup(self) -> None:
        """Read the certificate again, or stop if the terminal has closed. Open connections keep their certificate."""
        context = self.config.ssl
        if self._hangup.is_of_the_terminal():
            self.handle_exit(signal.SIGHUP, None)
        elif context is None:
            _log.info("SIGHUP: there is no certificate to read again, because TLS is off")
        else:
            try:
                tls.renew(context, self._settings)
            except OperatorError as error:
                _log.error("the certificate stays as it was", why=str(error))
            else:
                _log.info("the certificate was read again")


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    with socket.socket(family_of(host)) as listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
        except OSError as error:
            raise OperatorError(
                f"The console cannot listen on {host} port {port} ({error.strerror}): free it, or choose another with "
                "HONGBAO_CONSOLE_PORT (0 under `hongbao up`: no console)."
            ) from None
        yield listener
