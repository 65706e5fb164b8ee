"""Answers as bytes for the wire. Some are made in advance."""

import asyncio
from typing import Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from api.answers import JSON, Answer
from api.limits import OVERLOADED
from api.wire.keep_alive import Header


class Writer(Protocol):
    """A connection with an unanswered plain claim."""

    def write_body(self, body: bytes) -> None:
        """Write a 200 with this body."""
        ...


class Outbox:
    """Collects answers that are known at once, and writes them together once everything that has arrived is read.

    If written one by one, each would wake its client, and this costs the writer more than everything else.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Writer, bytes]] = []

    def put(self, connection: Writer, body: bytes) -> None:
        """Queue the body of a 200. It is written in this turn of the loop."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append((connection, body))

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection, body in waiting:
            connection.write_body(body)


class Prepared:
    """Prepared bytes for answers to claims. They carry the date, so they are valid for one second.

    ``keep_alive``: the header of every answer but a connection's last.
    """

    def __init__(self, state: ServerState, keep_alive: Header) -> None:
        self._state, self.keep_alive = state, keep_alive
        self._defaults: list[Header] | None = None
        self._head = self._overloaded = b""

    @property
    def head(self) -> bytes:
        """The status line and headers of a 200, up to the number in content-length."""
        if self._state.default_headers is not self._defaults:
            self._prepare()
        return self._head

    @property
    def overloaded(self) -> bytes:
        """The complete OVERLOADED answer on a connection that is kept."""
        if self._state.default_headers is not self._defaults:
            self._prepare()
        return self._overloaded

    def whole(self, answer: Answer, *, is_last: bool) -> bytes:
        """The complete answer."""
        defaults = self._state.default_headers
        return whole(answer, defaults if is_last else [*defaults, self.keep_alive], is_last=is_last)

    def _prepare(self) -> None:
        self._defaults = self._state.default_headers
        self._head = head_of(200, [*self._defaults, self.keep_alive, *JSON])
        self._overloaded = self.whole(OVERLOADED, is_last=False)


def whole(answer: Answer, defaults: list[Header], *, is_last: bool) -> bytes:
    """The complete answer. ``is_last``: it says that its connection closes."""
    head = head_of(answer.status, [*defaults, *answer.headers])
    close = b"connection: close\r\n" if is_last else b""
    return b"%b%d\r\n%b\r\n%b" % (head, len(answer.body), close, answer.body)


def head_of(status: int, headers: list[Header]) -> bytes:
    """The status line and headers, up to the number in content-length."""
    lines = [b"%b: %b\r\n" % header for header in headers]
    return b"".join([STATUS_LINE[status], *lines, b"content-length: "])
