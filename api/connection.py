"""One HTTP/1.1 connection: uvicorn's own, with a short way for plain claims and bounds on what is not yet a request.

A plain claim (``api.fast_claims``) is answered from the parser's callbacks: no scope, no task, no ASGI messages. All
else is uvicorn's, and so is a plain claim that comes while the one before it is not answered.
"""

import asyncio
from collections.abc import Callable, Sized
from time import monotonic
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from api.answers import JSON, Answer
from api.fast_claims import LATER, FastClaims
from api.problems import HeadTooLargeError, MalformedError, answer_to
from engine.errors import HongbaoError

HEADERS_MAX = 100
HEAD_BYTES_MAX = 65_536
"""How long a request's target and headers may be together."""
_LINES_BYTES_MAX = HEAD_BYTES_MAX + 1_024
"""As many bytes of them, with what is between them, are taken before it is known how long they are."""
HEAD_S_MAX = 10
"""How long they may take to arrive."""
IDLE_S_MAX = 75
"""How long a connection is kept without a request."""


class Outbox:
    """Answers that are known as soon as they are asked for, written together once all that has arrived is read.

    Written one by one, each would wake the client for one answer; that costs the writer more than all the rest.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Connection, bytes]] = []

    def put(self, connection: "Connection", body: bytes) -> None:
        """Have the body of a 200 written in this turn of the loop."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append((connection, body))

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection, body in waiting:
            connection.write_body(body)


class Prepared:
    """The bytes before a claim's answer, the same for a whole second, whose date they carry."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._defaults: list[tuple[bytes, bytes]] | None = None
        self._head = b""

    @property
    def head(self) -> bytes:
        """Status line and headers of a 200 up to the number in content-length."""
        if self._state.default_headers is not self._defaults:
            self._defaults = self._state.default_headers
            self._head = _head(200, [*self._defaults, *JSON])
        return self._head


class _Plain:
    """A plain claim in the place of uvicorn's cycle: as long as it is not complete, later requests queue."""

    __slots__ = ("disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self) -> None:
        self.message_event = asyncio.Event()  # uvicorn sets it when the client is gone; nobody waits
        self.keep_alive, self.response_complete, self.disconnected = True, True, False


class _Refusal(_Plain):
    """What is not a request, in the place of uvicorn's cycle: it is refused after the answers to what came before."""

    __slots__ = ("_refuse",)

    def __init__(self, refuse: Callable[[], None]) -> None:
        super().__init__()
        self.response_complete, self._refuse = False, refuse

    async def run_asgi(self, _app: object) -> None:
        """Its turn has come."""
        self._refuse()


class _Flow(FlowControl):
    """Reads no further while requests wait that have been read; uvicorn's own would, once for each it answers."""

    def __init__(self, transport: asyncio.Transport, pipeline: Sized) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        """Read on, if there is nothing left to begin."""
        if not self._pipeline:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """Serves one client."""

    def __init__(
        self,
        fast_claims: FastClaims,
        prepared: Prepared,
        outbox: Outbox,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._take, self._prepared, self._outbox = fast_claims.take, prepared, outbox
        self._plain = _Plain()
        self._begun: RequestResponseCycle | None = None
        self._is_without_cycle = False
        # In the lines before a body, or in those that may come after it.
        self._is_in_lines, self._bytes_of_lines, self._may_be_too_large = False, 0, False
        self._quiet_since_s = monotonic()
        self._problem = _NOT_HTTP

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The client is there."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone. uvicorn tells only the last of its requests, and the first may be the one under way."""
        self._plain.disconnected = True
        if self._begun is not None and not self._begun.response_complete:
            self._begun.disconnected = True
            self._begun.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which calls the methods below."""
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        began_before = self._is_in_lines
        if began_before:
            self._bytes_of_lines += len(data)
        self._may_be_too_large = began_before or len(data) > HEAD_BYTES_MAX
        try:
            try:
                self.parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                self._read_without_upgrade(memoryview(data)[upgrade.args[0] :])
        except HttpParserError:
            self.send_400_response("")
            return
        if self._bytes_of_lines > _LINES_BYTES_MAX:
            self._problem = _TOO_LARGE
            self.send_400_response("")
        elif self._is_in_lines and not began_before:
            self._quiet_since_s = monotonic()

    def _read_without_upgrade(self, rest: memoryview) -> None:
        """Read an offer to speak something else, which ends what the parser takes, as if it had not been made."""
        while True:
            start = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
            lines = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
            try:
                self.parser.feed_data(b"".join([start, *lines, b"\r\n"]))
                self.parser.feed_data(rest)
                return
            except HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]

    def on_message_begin(self) -> None:
        """A request's first byte is there. What uvicorn makes of it can wait until it is known that it is needed."""
        self.url = b""
        self.headers = []
        self._is_in_lines = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """All but the body is there: answer it here, or let uvicorn make a task of it."""
        self._is_in_lines, self._bytes_of_lines = False, 0
        parser = self.parser
        if len(self.headers) > HEADERS_MAX or (self._may_be_too_large and self._is_too_large()):
            self._problem = _TOO_LARGE
            raise ValueError  # which ends the parsing
        if parser.should_upgrade():
            if parser.get_method() == b"CONNECT":
                raise ValueError
            self._is_without_cycle = True  # it is about to be read again
            return
        cycle = self.cycle
        # Only if no answer is owed before this one, and the client takes what it is sent.
        if (cycle is None or cycle.response_complete) and not self.flow.write_paused and self._is_taken():
            self._is_without_cycle = True
            return
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        self.expect_100_continue = any(
            name == b"expect" and value.lower() == b"100-continue" for name, value in headers
        )
        super().on_headers_complete()
        self.headers = []  # lines that come after the body are not the request's headers

    def on_chunk_header(self) -> None:
        """A chunk of the body begins; if it is the last, which has no bytes, there may be lines after it."""
        self._is_in_lines = True

    def on_body(self, body: bytes) -> None:
        """Some of the body."""
        self._is_in_lines, self._bytes_of_lines = False, 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The body, if any, has ended."""
        if self._is_without_cycle:
            self._is_without_cycle = False
        else:
            self._is_in_lines, self._bytes_of_lines = False, 0
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is written."""
        self._quiet_since_s = monotonic()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not a request, in the form of every other refusal, and close; what came before goes first."""
        self.flow.pause_reading()
        cycle = self.cycle
        is_owing = self._is_owing()
        if is_owing and isinstance(cycle, RequestResponseCycle) and cycle.more_body:  # this is its body
            if self.pipeline:
                self.pipeline.popleft()
            else:
                is_owing = False
        if is_owing:
            refusal: Any = _Refusal(self._refuse)
            self.cycle = refusal
            self.pipeline.appendleft((refusal, self.app))
        else:
            self._refuse()

    def close_if_quiet(self, now_s: float) -> None:
        """Close a connection that asks nothing, takes too long to ask, or does not take its answers."""
        is_owing = self._is_owing()
        s_max = HEAD_S_MAX if self._is_in_lines and not is_owing else IDLE_S_MAX
        if now_s - self._quiet_since_s > s_max and (self.flow.write_paused or not is_owing):
            self.transport.abort()

    def write_body(self, body: bytes) -> None:
        """Write the answer to a plain claim that has one."""
        if self._plain.keep_alive:
            self._write(b"%b%d\r\n\r\n%b" % (self._prepared.head, len(body), body))
        else:
            self._write(self._bytes_of(Answer(200, body)))

    def _is_owing(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_too_large(self) -> bool:
        return len(self.url) + sum([len(name) + len(value) for name, value in self.headers]) > HEAD_BYTES_MAX

    def _is_taken(self) -> bool:
        parser = self.parser
        if not parser.should_keep_alive() or parser.get_http_version() != "1.1":
            return False
        # Before it is known, for it may be answered before `take` returns.
        before, self.cycle = self.cycle, self._plain  # type: ignore[assignment]
        self._plain.response_complete = False
        taken = self._take(parser.get_method(), self.url, self.headers, self._deliver)
        if taken is None:
            self.cycle, self._plain.response_complete = before, True
            return False
        if taken is not LATER:
            self._outbox.put(self, taken)
        return True

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._begun = cycle
        super()._start_asgi_task(cycle, app)

    def _deliver(self, answer: Answer) -> None:
        if answer.status == 200:
            self.write_body(answer.body)
        else:
            self._write(self._bytes_of(answer))

    def _write(self, answer: bytes) -> None:
        plain = self._plain
        plain.response_complete = True
        if plain.disconnected:
            return
        self._quiet_since_s = monotonic()
        self.transport.write(answer)
        if not plain.keep_alive:
            self.transport.close()
        elif self.pipeline:
            super().on_response_complete()

    def _refuse(self) -> None:
        self._plain.keep_alive = False
        self.transport.write(self._bytes_of(answer_to(self._problem)))
        self.transport.close()

    def _bytes_of(self, answer: Answer) -> bytes:
        head = _head(answer.status, [*self.server_state.default_headers, *answer.headers])
        close = b"" if self._plain.keep_alive else b"connection: close\r\n"
        return b"%b%d\r\n%b\r\n%b" % (head, len(answer.body), close, answer.body)


def _head(status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
    lines = [b"%b: %b\r\n" % header for header in headers]
    return b"".join([STATUS_LINE[status], *lines, b"content-length: "])


# Told, never raised: an exception that is kept and raised again keeps what raised it.
_NOT_HTTP: HongbaoError = MalformedError("This is not an HTTP/1.1 request.")
_TOO_LARGE = HeadTooLargeError(f"A request may begin with {HEAD_BYTES_MAX} bytes in {HEADERS_MAX} headers at most.")
