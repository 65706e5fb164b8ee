"""One API process: the application on uvicorn, until a stop signal."""

import asyncio
import contextlib
import gc
import ipaddress
import math
import resource
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from types import FrameType
from typing import Any

import structlog
import uvicorn
from starlette.applications import Starlette

from api.app import create_app, lifespan_of
from api.dispatch import Front
from api.limits import Limits
from api.wire.connection import Connection
from api.wire.fast_claims import FastClaims
from api.wire.keep_alive import keep_alive_header
from api.wire.prepared import Outbox, Prepared
from engine.access import tls
from engine.errors import OperatorError
from engine.observability import metrics
from engine.settings import Settings
from engine.supervision.hangup import Hangup
from engine.supervision.ports import family_of

STOP_S_MAX = 15
"""After a stop signal the process ends within this time, even if requests are unanswered."""
CONNECTIONS_WAITING_MAX = 4_096
HSTS = ("strict-transport-security", "max-age=31536000")
"""In every answer over TLS: a client that was here once does not connect without TLS for a year."""
_TICKS_A_SECOND = 10
_TAKE_IN_S_MAX = 1.0
"""How long the TLS handshake may take for a client that is accepted at the stop."""

_log = structlog.get_logger(__name__)


async def serve(settings: Settings, ready: Callable[[], None] | None = None) -> None:
    """Serve HTTP on ``settings.host``:``settings.port`` until SIGTERM or SIGINT. Requests in progress are answered.

    ``ready`` is called once everything is done but listening. Several processes may share the port. Raises
    OperatorError if the port, the secrets, the certificate or a server cannot be used.
    """
    context = tls.server_context(settings)
    with _listening(settings) as listener:
        if context is None and not ipaddress.ip_address(settings.host).is_loopback:
            _log.warning(
                "serving without TLS beyond this machine: do so only behind a proxy that has it", host=settings.host
            )
        app = create_app(settings)
        _fit_descriptors(app.state.front.limits)
        # The lifespan runs here and not in the server, so that a failed start is an exception, not a log line.
        async with lifespan_of(app):
            server = _Server(app, context)
            with server.capture_signals():  # before it is reported as ready
                _spare_the_collector()
                metrics.PROCESS_STARTS.labels("serve").inc()
                _log.info("serving", host=settings.host, port=settings.port)
                _note_certificate(settings)
                if ready is not None:
                    ready()
                await server.serve([listener])
                if app.state.front.in_flight:
                    _log.warning("stopped before every request was answered", after_s=STOP_S_MAX)
    _log.info("stopped")


class _Server(uvicorn.Server):
    """uvicorn with our connections. It ends by returning after any stop signal."""

    def __init__(self, app: Starlette, context: ssl.SSLContext | None = None) -> None:
        front: Front = app.state.front
        keep_alive_s = front.settings.keep_alive_s
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            access_log=False,
            log_config=None,
            log_level="error",
            server_header=False,
            proxy_headers=False,  # uvicorn would believe any peer; `api.addresses` knows which proxies to trust
            backlog=CONNECTIONS_WAITING_MAX,
            timeout_keep_alive=keep_alive_s,
            timeout_graceful_shutdown=STOP_S_MAX,
            headers=[] if context is None else [HSTS],
        )
        super().__init__(config)
        config.load()
        config.ssl = context
        self._front, self._told_to_stop_s, self._hangup = front, math.inf, Hangup()
        prepared = Prepared(self.server_state, keep_alive_header(keep_alive_s))
        connection: Any = partial(Connection, FastClaims(front), prepared, Outbox(), front.limits)
        config.http_protocol_class = connection

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept clients that are connected but not accepted yet: closing the listener would reset them. Then stop."""
        accepting = [asyncio.create_task(self._take_in(client)) for client in _waiting_at(sockets or [])]
        if accepting:
            await asyncio.wait(accepting, timeout=_TAKE_IN_S_MAX)
        await super().shutdown(sockets)

    async def _take_in(self, client: socket.socket) -> None:
        made: Any = self.config.http_protocol_class
        connection = partial(made, config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        with contextlib.suppress(OSError):  # the client is gone, or does not use TLS
            await asyncio.get_running_loop().connect_accepted_socket(connection, client, ssl=self.config.ssl)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own raises the signal again at the end, so that every stop would look like a crash."""
        handlers = {
            signal.SIGTERM: self.handle_exit,
            signal.SIGINT: self.handle_exit,
            signal.SIGHUP: self.handle_hangup,
        }
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop after ``drain_delay_s``, in which load balancers see /readyz fail and send requests elsewhere.

        uvicorn's own would stop at once after a second SIGINT. That has no benefit here.
        """
        self.should_exit = self._front.is_stopping or not self._front.settings.drain_delay_s
        self._front.is_stopping, self._told_to_stop_s = True, monotonic()

    def handle_hangup(self, sig: int, frame: FrameType | None) -> None:
        """Read the certificate again, or stop if the terminal has closed. Open connections keep their certificate."""
        context = self.config.ssl
        if self._hangup.is_of_the_terminal():
            self.handle_exit(sig, frame)
        elif context is None:
            _log.info("SIGHUP: there is no certificate to read again, because TLS is off")
        else:
            try:
                tls.renew(context, self._front.settings)
            except OperatorError as error:
                _log.error("the certificate stays as it was", why=str(error))
            else:
                _note_certificate(self._front.settings)

    async def on_tick(self, counter: int) -> bool:
        """Do uvicorn's work ten times per second, and look for idle connections once per second."""
        if self._front.is_stopping and monotonic() - self._told_to_stop_s >= self._front.settings.drain_delay_s:
            self.should_exit = True
        if counter % _TICKS_A_SECOND == 0:
            now_s = monotonic()
            for connection in list(self.server_state.connections):
                connection.close_if_quiet(now_s)  # type: ignore[union-attr]
        return await super().on_tick(counter)


def _note_certificate(settings: Settings) -> None:
    if settings.tls_certificate is not None:
        _, ends = tls.validity(settings.tls_certificate)
        metrics.TLS_CERTIFICATE_ENDS.set(ends.timestamp())
        _log.info("serving with a certificate", certificate=str(settings.tls_certificate), ends=ends.isoformat())


def _waiting_at(listeners: list[socket.socket]) -> Iterator[socket.socket]:
    """Accept all clients that wait at each listener."""
    for listener in listeners:
        listener.setblocking(False)
        for _ in range(CONNECTIONS_WAITING_MAX):
            try:
                client, _ = listener.accept()
            except OSError:  # none is left, or this process has no file descriptor left
                break
            client.setblocking(False)
            yield client


@contextlib.contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    """A socket on the settings' address. Other processes may share it. Raises OperatorError."""
    with socket.socket(family_of(settings.host)) as listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((settings.host, settings.port))
        except OSError as error:
            raise OperatorError(f"Cannot listen on {settings.host} port {settings.port}: {error.strerror}.") from None
        yield listener


def _fit_descriptors(limits: Limits) -> None:
    """Raise the limit on open files as far as needed and allowed. If it is too low, accept fewer connections."""
    wanted = limits.descriptors_for(limits.connections_max)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        limits.fit(soft)
        if soft < wanted:
            _log.warning("the limit on open files is low", files=soft, connections_max=limits.connections_max)


def _spare_the_collector() -> None:
    """Exclude objects that live as long as the process from every garbage collection."""
    gc.collect()
    gc.freeze()
