"""Answers as bytes for the wire, and those that can be made before they are needed."""

import asyncio
from typing import Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from api.answers import JSON, Answer
from api.limits import OVERLOADED
from api.wire.keep_alive import Header


class Writer(Protocol):
    """A connection that owes the answer to a plain claim."""

    def write_body(self, body: bytes) -> None:
        """Write the answer, a 200."""
        ...


class Outbox:
    """Answers that are known as soon as they are asked for, written together once all that has arrived is read.

    Written one by one, each would wake the client for one answer; that costs the writer more than all the rest.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Writer, bytes]] = []

    def put(self, connection: Writer, body: bytes) -> None:
        """Have the body of a 200 written in this turn of the loop."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append((connection, body))

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection, body in waiting:
            connection.write_body(body)


class Prepared:
    """Answers to claims: the bytes before one, the same for a whole second, whose date they carry, and whole ones.

    ``keep_alive``: what an answer says of its connection unless it is the last one.
    """

    def __init__(self, state: ServerState, keep_alive: Header) -> None:
        self._state, self.keep_alive = state, keep_alive
        self._defaults: list[Header] | None = None
        self._head = self._overloaded = b""

    @property
    def head(self) -> bytes:
        """Status line and headers of a 200 up to the number in content-length."""
        if self._state.default_headers is not self._defaults:
            self._prepare()
        return self._head

    @property
    def overloaded(self) -> bytes:
        """All of the answer to one too many, whose connection is kept."""
        if self._state.default_headers is not self._defaults:
            self._prepare()
        return self._overloaded

    def whole(self, answer: Answer, *, is_last: bool) -> bytes:
        """All of an answer."""
        defaults = self._state.default_headers
        return whole(answer, defaults if is_last else [*defaults, self.keep_alive], is_last=is_last)

    def _prepare(self) -> None:
        self._defaults = self._state.default_headers
        self._head = head_of(200, [*self._defaults, self.keep_alive, *JSON])
        self._overloaded = self.whole(OVERLOADED, is_last=False)


def whole(answer: Answer, defaults: list[Header], *, is_last: bool) -> bytes:
    """All of an answer; ``is_last``: it says that its connection ends."""
    head = head_of(answer.status, [*defaults, *answer.headers])
    close = b"connection: close\r\n" if is_last else b""
    return b"%b%d\r\n%b\r\n%b" % (head, len(answer.body), close, answer.body)


def head_of(status: int, headers: list[Header]) -> bytes:
    """Status line and headers up to the number in content-length."""
    lines = [b"%b: %b\r\n" % header for header in headers]
    return b"".join([STATUS_LINE[status], *lines, b"content-length: "])
