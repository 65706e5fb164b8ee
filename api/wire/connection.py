"""One HTTP/1.1 connection: uvicorn's own, with a short way for plain claims and bounds on incomplete requests.

A plain claim (``fast_claims``) is answered from the parser's callbacks: no scope, no task, no ASGI messages. uvicorn
answers everything else, and a plain claim that comes before the last one is answered. Requests beyond a bound
(``api.limits``) are also refused from the parser's callbacks.
"""

import asyncio
from time import monotonic
from typing import Any

from httptools import HttpParserError, HttpParserInvalidURLError, HttpParserUpgrade, HttpRequestParser
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from api.answers import Answer
from api.bodies import has_body
from api.certificates import EXTENSION, client_certificate
from api.dispatch import refusing
from api.limits import CLAIMS_WAITING, OVERLOADED, TOO_SOON, Limits
from api.problems import HeadTooLargeError, MalformedError, answer_to
from api.wire.fast_claims import LATER, REFUSED, FastClaims
from api.wire.keep_alive import saying
from api.wire.layouts import PLAIN_BYTES_MAX, START, is_whole
from api.wire.prepared import Outbox, Prepared
from api.wire.stand_ins import Flow, Plain, Refusal
from api.wire.turning_away import Deaf, turn_away
from engine.errors import HongbaoError

HEADERS_MAX = 100
HEAD_BYTES_MAX = 65_536
"""The largest size of a request's target and headers together."""
_LINES_BYTES_MAX = HEAD_BYTES_MAX + 1_024
"""How many bytes of them, with separators, are read before their length is known."""
HEAD_S_MAX = 10
"""How long they may take to arrive."""
UNREAD_S_MAX = 75
"""How long a client may leave its answers unread."""
READINGS_MAX = 16
"""How many of a connection's claims are checked for a new layout, because they had none that was known."""
LAST_S = 1.0
"""How long a connection without an open request stays open at the stop, because a client may be busy, too."""
LAST_AGAIN_S, LAST_TRIES_MAX = 0.1, 20
"""If a request is arriving then, the connection is checked again after this time, at most this often."""


class Connection(HttpToolsProtocol):
    """Serves one client."""

    # Slots are side by side, not scattered in a dictionary: with a thousand connections, the cache is cold.
    __slots__ = (
        *(
            "_asked_too_soon",
            "_begun",
            "_bytes_of_lines",
            "_certificate",
            "_claims",
            "_gate",
            "_is_between",
            "_is_held",
            "_layouts",
        ),
        *("_is_in_lines", "_is_stopping", "_is_without_cycle", "_limits", "_may_be_too_large", "_outbox"),
        *("_plain", "_prepared", "_problem", "_quiet_since_s", "_readings_left", "_take"),
    )

    def __init__(
        self,
        fast_claims: FastClaims,
        prepared: Prepared,
        outbox: Outbox,
        limits: Limits,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._claims, self._take, self._prepared, self._outbox = fast_claims, fast_claims.take, prepared, outbox
        self._layouts, self._readings_left, self._limits = fast_claims.layouts.alike, READINGS_MAX, limits
        self._gate = None if limits.by_address is None else limits.answer_by_address
        self._is_held = self._asked_too_soon = self._is_stopping = False
        self._plain = Plain()
        self._begun: RequestResponseCycle | None = None
        self._certificate: bytes | None = None
        self._is_without_cycle = False
        # Whether the parser is in the lines before a body, or in those that may follow it.
        self._is_in_lines, self._bytes_of_lines, self._may_be_too_large = False, 0, False
        self._is_between = True  # between complete requests, as far as the parser knows
        self._quiet_since_s, self._problem = monotonic(), _NOT_HTTP

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self.flow: Flow = Flow(transport, self.pipeline)
        self._certificate = client_certificate(transport)
        if len(self.connections) > self._limits.connections_max:
            self.connections.discard(self)
            self.parser, self._is_between = Deaf(), False  # type: ignore[assignment]  # nor is a known claim heard
            turn_away(transport, self._limits, self.server_state.default_headers)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone. uvicorn ends only the last request, but the first may be in progress."""
        self._plain.disconnected = True
        if self._begun is not None and not self._begun.response_complete:
            self._begun.disconnected = True
            self._begun.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which calls the methods below."""
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        if self._is_between and self._is_known(data):
            return
        was_between, began_before = self._is_between, self._is_in_lines
        if began_before:
            self._bytes_of_lines += len(data)
        self._may_be_too_large = began_before or len(data) > HEAD_BYTES_MAX
        try:
            try:
                self.parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                self._read_without_upgrade(memoryview(data)[upgrade.args[0] :])
        except HttpParserError as error:
            if isinstance(error, HttpParserInvalidURLError):
                self._problem = _BAD_TARGET
            self.send_400_response("")
            return
        if self._bytes_of_lines > _LINES_BYTES_MAX:
            self._problem = _TOO_LARGE
            self.send_400_response("")
        elif self._is_in_lines and not began_before:
            self._quiet_since_s = monotonic()
        if self._readings_left and was_between and self._is_between and isinstance(self.cycle, Plain):
            self._learn(data)

    def _learn(self, data: bytes) -> None:
        """Remember the layout of a parsed plain claim that came complete and alone, for later claims."""
        if not is_whole(data):
            return
        self._readings_left -= 1
        self._claims.layouts.learn(data)

    def _read_without_upgrade(self, rest: memoryview) -> None:
        """Read a request again without its Upgrade header, because the parser stops at an upgrade."""
        while True:
            start = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
            lines = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
            # The old parser reads no more if the request was also marked as the connection's last.
            self.parser = HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            try:
                self.parser.feed_data(b"".join([start, *lines, b"\r\n"]))
                self.parser.feed_data(rest)
                return
            except HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]

    def on_message_begin(self) -> None:
        """A request's first byte has arrived. uvicorn's own work is done later, if it is needed."""
        self.url = b""
        self.headers = []
        self._is_in_lines, self._is_between = True, False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header line has arrived."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Everything but the body has arrived. Answer the request here, or let uvicorn make a task of it."""
        self._is_in_lines, self._bytes_of_lines = False, 0
        parser = self.parser
        if len(self.headers) > HEADERS_MAX or (self._may_be_too_large and self._is_too_large()):
            self._problem = _TOO_LARGE
            raise ValueError  # this ends the parsing
        if parser.should_upgrade():
            if parser.get_method() == b"CONNECT":
                raise ValueError
            self._is_without_cycle = True  # the request will be read again
            return
        cycle = self.cycle
        refusal = None if self._gate is None else self._refusal_by_address()
        # Only if all earlier requests are answered and the client reads its answers.
        is_next = (cycle is None or cycle.response_complete) and not self.flow.write_paused
        if is_next and refusal is None and self._is_taken():
            self._is_without_cycle = True
            return
        if refusal is None:
            refusal = self._limits.answer_when_full(len(self.tasks), self.url)
        if is_next and refusal is not None and self._can_refuse_at_once():
            self._is_without_cycle = True
            self._refuse_at_once(refusal)
            return
        self._begin_cycle(self.app if refusal is None else refusing(refusal))

    def _begin_cycle(self, app: Any) -> None:  # noqa: ANN401 - an ASGI application, by Starlette's types or by uvicorn's
        """Let uvicorn make a task of the request, or queue it."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        if self._certificate is not None:
            self.scope["extensions"] = {EXTENSION: self._certificate}  # type: ignore[dict-item]
        self.expect_100_continue = any(
            name == b"expect" and value.lower() == b"100-continue" for name, value in headers
        )
        before, self.app = self.app, app  # uvicorn takes the application from here only
        super().on_headers_complete()
        self.app = before
        if self._is_stopping:
            self.cycle.keep_alive = False
        self.headers = []  # lines after the body are not the request's headers

    def on_chunk_header(self) -> None:
        """A chunk of the body begins. Lines may follow the last chunk, which is empty."""
        self._is_in_lines = True

    def on_body(self, body: bytes) -> None:
        """A part of the body has arrived."""
        self._is_in_lines, self._bytes_of_lines = False, 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete. After a connection's last request, the parser reads no more."""
        is_last = not self.parser.should_keep_alive()
        self._is_between = not is_last
        if self._is_without_cycle:
            self._is_without_cycle = False
            return
        self._is_in_lines, self._bytes_of_lines = False, 0
        super().on_message_complete()
        if is_last and self.cycle.response_complete:
            self.transport.close()
        elif is_last:  # lines after the body may also have marked it as the last
            self.cycle.keep_alive = False

    def pause_writing(self) -> None:
        """The client is behind. Its time counts from now on, even in the middle of a long answer."""
        self._quiet_since_s = monotonic()
        super().pause_writing()

    def on_response_complete(self) -> None:
        """An answer has been written."""
        self._quiet_since_s = monotonic()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse an invalid request with a problem, after the answers to earlier ones, and close."""
        self.flow.pause_reading()
        cycle = self.cycle
        is_owing = self._is_owing()
        if is_owing and isinstance(cycle, RequestResponseCycle) and cycle.more_body:  # the error is in its body
            if self.pipeline:
                self.pipeline.popleft()
            else:
                is_owing = False
        if is_owing:
            refusal: Any = Refusal(self._refuse)
            self.cycle = refusal
            self.pipeline.appendleft((refusal, self.app))
        else:
            self._refuse()

    def close_if_quiet(self, now_s: float) -> None:
        """Close a connection that is idle, sends a request too slowly, or does not read its answers."""
        is_owing = self._is_owing()
        is_asking, is_stuck, quiet_s = (
            self._is_in_lines and not is_owing,
            self.flow.write_paused,
            now_s - self._quiet_since_s,
        )
        if is_asking or is_stuck:
            if quiet_s > (HEAD_S_MAX if is_asking else UNREAD_S_MAX):
                self.transport.abort()
        elif not is_owing and quiet_s > self.timeout_keep_alive and not self.flow.unread:
            self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        """Ignore uvicorn's timer: ``close_if_quiet`` does this, and also checks for an unread request."""

    def read_on(self, *, is_overloaded: bool) -> bool:
        """Read the connection again. Returns False if it is gone. A request that is there already came too soon."""
        self._is_held = False
        if self.transport.is_closing():
            return False
        self._asked_too_soon = is_overloaded and self.flow.unread > 0
        self.flow.resume_reading()
        return True

    def shutdown(self) -> None:
        """The process stops. Received and arriving requests are answered. The last answer says that it is the last.

        So a busy client learns from an answer, not from a closed connection, that it must go elsewhere.
        """
        self._is_stopping = True
        self._take, self._readings_left = _take_nothing, 0  # type: ignore[assignment]
        if self._is_owing():
            self.cycle.keep_alive = False
        else:
            self.loop.call_later(LAST_S, self._close_if_silent, LAST_TRIES_MAX)

    def _close_if_silent(self, tries_left: int) -> None:
        if self.transport.is_closing() or self._is_owing():
            return
        is_asking = self._is_in_lines or self.flow.read_paused or self.flow.unread > 0
        if is_asking and tries_left:
            self.flow.resume_reading()
            self.loop.call_later(LAST_AGAIN_S, self._close_if_silent, tries_left - 1)
        else:
            self.transport.close()

    def write_body(self, body: bytes) -> None:
        """Answer a plain claim with a 200."""
        plain = self._plain
        if not plain.keep_alive or plain.disconnected or self.pipeline:
            self._write(self._bytes_of(Answer(200, body)))
            return
        # As ``_write``, without its call and its questions, because this runs once per claim.
        plain.response_complete = True
        self._quiet_since_s = monotonic()
        self.transport.write(b"%b%d\r\n\r\n%b" % (self._prepared.head, len(body), body))

    def _is_owing(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_too_large(self) -> bool:
        return len(self.url) + sum([len(name) + len(value) for name, value in self.headers]) > HEAD_BYTES_MAX

    def _refusal_by_address(self) -> Answer | None:
        peer = self.client[0] if self.client else ""
        return self._limits.answer_by_address(peer, self.parser.get_method(), self.url, self.headers)

    def _can_refuse_at_once(self) -> bool:
        """Whether a refusal needs no more reading and no closing."""
        is_kept = self.parser.should_keep_alive() and self.parser.get_http_version() == "1.1" and not self._is_stopping
        return is_kept and not has_body(dict(self.headers))

    def _refuse_at_once(self, answer: Answer) -> None:
        """Refuse without a task. The connection is not read again before its turn."""
        if answer is OVERLOADED:
            self.transport.write(self._prepared.overloaded)
        else:
            self.transport.write(self._bytes_of(answer))
        self._quiet_since_s = monotonic()
        self._hold()

    def _hold(self) -> None:
        if not self._is_held and not self._is_stopping:
            self._is_held = True
            self.flow.pause_reading()
            self._limits.room.hold(self)

    def _is_known(self, data: bytes) -> bool:
        """Whether ``data`` was a plain claim of a known layout, and was handled."""
        layouts, before = self._layouts.get(data[START]), self.cycle
        if not layouts or len(data) > PLAIN_BYTES_MAX or self._is_stopping:
            return False
        is_owing = before is not None and not before.response_complete
        if is_owing or self.flow.write_paused or self._asked_too_soon or self._gate is not None:
            return False
        # Set this first, because the claim may be answered before `take_known` returns.
        self.cycle = self._plain  # type: ignore[assignment]
        self._plain.response_complete = False
        taken = self._claims.take_known(layouts, data, self)
        if taken is REFUSED:  # a claim of a layout has no body, and its connection is kept
            self.cycle, self._plain.response_complete = before, True
            self._limits.room.note_overload()
            self._refuse_at_once(OVERLOADED)
            return True
        return taken is LATER or self._is_seen_to(taken, before)

    def _is_taken(self) -> bool:
        """Whether the parsed request is a plain claim, and was handled."""
        parser = self.parser
        if not parser.should_keep_alive() or parser.get_http_version() != "1.1":
            return False
        if self._asked_too_soon and self._is_refused_again():
            return True
        before, self.cycle = self.cycle, self._plain  # type: ignore[assignment]
        self._plain.response_complete = False
        taken = self._take(parser.get_method(), self.url, self.headers, self)
        return taken is LATER or self._is_seen_to(taken, before)

    def _is_seen_to(self, taken: bytes | None, before: RequestResponseCycle) -> bool:
        """Send an answer that is known at once. Returns False if the claim must go the long way."""
        if taken is None or taken is REFUSED:
            self.cycle, self._plain.response_complete = before, True
            return taken is REFUSED and self._is_refused_at_once()
        self._outbox.put(self, taken)
        return True

    def _is_refused_at_once(self) -> bool:
        self._limits.room.note_overload()
        if not self._can_refuse_at_once():
            return False  # the long way also refuses it
        self._refuse_at_once(OVERLOADED)
        return True

    def _is_refused_again(self) -> bool:
        self._asked_too_soon = False
        if self._limits.is_probe(self.url) or not self._can_refuse_at_once():
            return False
        self._limits.refused[TOO_SOON] += 1
        self._refuse_at_once(OVERLOADED)
        return True

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._begun = cycle
        super()._start_asgi_task(cycle, saying(self._prepared.keep_alive, cycle, app))  # type: ignore[arg-type]

    def write_answer(self, answer: Answer) -> None:
        """Answer a plain claim."""
        if answer.status == 200:
            self.write_body(answer.body)
        else:
            self._write(self._bytes_of(answer))
            if answer.body == OVERLOADED.body and not self._plain.disconnected:  # the batcher has refused it
                self._limits.refused[CLAIMS_WAITING] += 1
                self._limits.room.note_overload()
                self._hold()

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
        return self._prepared.whole(answer, is_last=not self._plain.keep_alive)


def _take_nothing(*_arguments: object) -> None:
    """Replaces ``FastClaims.take`` when every answer is its connection's last."""


# These are answered but never raised: a kept exception that is raised again keeps its traceback.
_NOT_HTTP: HongbaoError = MalformedError("This is not an HTTP/1.1 request.", field="request")
_BAD_TARGET = MalformedError("The request's target must be percent-encoded ASCII.", field="target")
_TOO_LARGE = HeadTooLargeError(f"Line and headers must be at most {HEAD_BYTES_MAX} bytes and {HEADERS_MAX} headers.")
