"""A keep-alive HTTP connection with one request in flight, as cheap as possible, for our own load generators."""

import asyncio
from collections.abc import Callable
from typing import cast

_LENGTH = b"content-length:"


class Connection(asyncio.Protocol):
    """``answered`` is called once the complete answer is there, with the connection and whether it was a 200."""

    def __init__(self, answered: Callable[["Connection", bool], None], lost: Callable[[], None]) -> None:
        self._answered, self._lost = answered, lost
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        self._missing = -1
        self.due_s = 0.0

    @property
    def answer(self) -> bytes:
        """The received bytes of the last answer."""
        return b"".join(self._pieces)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection can be used from now on."""
        self._transport = cast("asyncio.Transport", transport)

    def send(self, due_s: float, request: bytes) -> None:
        """Send one request. ``due_s`` is kept for the answer."""
        assert self._transport is not None
        self.begin(due_s)
        self._transport.write(request)

    def begin(self, due_s: float) -> None:
        """Expect an answer."""
        self.due_s, self._pieces, self._missing = due_s, [], -1

    def data_received(self, data: bytes) -> None:
        """Take a piece of the answer."""
        self._pieces.append(data)
        if self._missing < 0:
            data = b"".join(self._pieces)
            self._pieces = [data]
            self._missing = missing(data)
        else:
            self._missing -= len(data)
        if self._missing == 0:
            self._answered(self, self._pieces[0].startswith(b"HTTP/1.1 200"))

    def connection_lost(self, error: Exception | None) -> None:
        """Count a closed connection as a failure, unless the run is over."""
        self._lost()


def missing(received: bytes) -> int:
    """How many bytes an answer still lacks. -1 while this is unknown (headers or last chunk missing)."""
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return -1
    lower = head.lower()
    place = lower.find(_LENGTH)
    if place < 0:
        return 0 if body.endswith(b"0\r\n\r\n") else -1
    return int(lower[place + len(_LENGTH) :].partition(b"\r\n")[0]) - len(body)


async def connect(
    port: int, count: int, answered: Callable[[Connection, bool], None], lost: Callable[[], None]
) -> list[Connection]:
    """Open ``count`` connections to a loopback port."""
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: Connection(answered, lost), "127.0.0.1", port) for _ in range(count)]
    return [connection for _, connection in made]
