"""One HTTP/1.1 connection: uvicorn's own, with a short way for plain claims and bounds on what is not yet a request.

A plain claim (``api.fast_claims``) is answered from the parser's callbacks: no scope, no task, no ASGI messages. All
else is uvicorn's, and so is a plain claim that comes while the one before it is not answered.
"""

import asyncio
from time import monotonic
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from api.answers import JSON, Answer
from api.fast_claims import LATER, FastClaims
from api.problems import HeadTooLargeError, MalformedError, answer_to

HEADERS_MAX = 100
HEAD_BYTES_MAX = 65_536
"""How long a request's line and headers may be together."""
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
        self._is_plain = False
        self._is_in_head, self._head_bytes = False, 0
        self._quiet_since_s = monotonic()
        self._problem: HeadTooLargeError | None = None

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which calls the methods below."""
        began_before = self._is_in_head
        if began_before:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > HEAD_BYTES_MAX:
            self._problem = _TOO_LARGE
            self.send_400_response("")
        elif self._is_in_head and not began_before:
            self._quiet_since_s = monotonic()

    def on_message_begin(self) -> None:
        """A request's first byte is there. What uvicorn makes of it can wait until it is known that it is needed."""
        self.url = b""
        self.headers = []
        self._is_in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """All but the body is there: answer it here, or let uvicorn make a task of it."""
        self._is_in_head, self._head_bytes = False, 0
        cycle = self.cycle
        # Only if no answer is owed before this one, and the client takes what it is sent.
        if (cycle is None or cycle.response_complete) and not self.flow.write_paused and self._is_taken():
            return
        url, headers = self.url, self.headers
        size = len(url) + sum([len(name) + len(value) for name, value in headers])
        if size > HEAD_BYTES_MAX or len(headers) > HEADERS_MAX:
            self._problem = _TOO_LARGE
            raise self._problem
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        self.expect_100_continue = any(
            name == b"expect" and value.lower() == b"100-continue" for name, value in headers
        )
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body, if any, has ended."""
        if self._is_plain:
            self._is_plain = False
        else:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is written."""
        self._quiet_since_s = monotonic()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not a request, in the form of every other refusal, and close."""
        answer = answer_to(self._problem or MalformedError("This is not an HTTP/1.1 request."))
        self._plain.keep_alive = False
        self.transport.write(self._bytes_of(answer))
        self.transport.close()

    def close_if_quiet(self, now_s: float) -> None:
        """Close a connection that asks nothing, or takes too long to ask."""
        quiet_s = now_s - self._quiet_since_s
        if self._is_in_head:
            is_over = quiet_s > HEAD_S_MAX
        else:
            is_over = quiet_s > IDLE_S_MAX and (self.cycle is None or self.cycle.response_complete)
        if is_over:
            self.transport.close()

    def write_body(self, body: bytes) -> None:
        """Write the answer to a plain claim that has one."""
        if self._plain.keep_alive:
            self._write(b"%b%d\r\n\r\n%b" % (self._prepared.head, len(body), body))
        else:
            self._write(self._bytes_of(Answer(200, body)))

    def _is_taken(self) -> bool:
        parser = self.parser
        if not parser.should_keep_alive() or parser.should_upgrade() or parser.get_http_version() != "1.1":
            return False
        # Before it is known, for it may be answered before `take` returns.
        before, self.cycle = self.cycle, self._plain  # type: ignore[assignment]
        self._plain.response_complete = False
        taken = self._take(parser.get_method(), self.url, self.headers, self._deliver)
        if taken is None:
            self.cycle = before
            return False
        if taken is not LATER:
            self._outbox.put(self, taken)
        self._is_plain = True
        return True

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

    def _bytes_of(self, answer: Answer) -> bytes:
        headers = [*self.server_state.default_headers, *answer.headers]
        if not self._plain.keep_alive:
            headers.append((b"connection", b"close"))
        return b"%b%d\r\n\r\n%b" % (_head(answer.status, headers), len(answer.body), answer.body)


def _head(status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
    lines = [b"%b: %b\r\n" % header for header in headers]
    return b"".join([STATUS_LINE[status], *lines, b"content-length: "])


_TOO_LARGE = HeadTooLargeError(f"A request may begin with {HEAD_BYTES_MAX} bytes in {HEADERS_MAX} headers at most.")
