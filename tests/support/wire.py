"""A client's end of a connection that chooses every byte and every packet, and the bytes it may send."""

import asyncio
import socket
from time import monotonic
from typing import Generic, Protocol, TypeVar, cast

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from tests.support.both_ways import Reply

_ANSWER_S_MAX, _ARRIVAL_S_MAX = 20.0, 20.0
_POLL_S = 0.001
_TURNS_MAX = 50
"""A piece arrives within a few turns of the loop, most often; nobody waits longer for a server that does not read."""


class Counted(Protocol):
    """What a client's end needs to know of the server's."""

    transport: asyncio.Transport
    arrived: int

    @property
    def flow(self) -> FlowControl:
        """Whether it reads."""
        ...


End = TypeVar("End", bound=Counted)


class _Reader(asyncio.StreamReader):
    """Has what came before a reset read after it, as the system does; asyncio's own forgets it."""

    def set_exception(self, exc: Exception) -> None:
        if isinstance(exc, ConnectionResetError):
            self.feed_eof()
        else:
            super().set_exception(exc)


async def streams(client: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client's end of a connection that stands."""
    loop = asyncio.get_running_loop()
    reader = _Reader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, sock=client)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class Wire(Generic[End]):
    """A client's end of a connection. ``there``: the server's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: End) -> None:
        self.reader, self.writer, self.there = reader, writer, there

    async def send(self, *pieces: bytes) -> None:
        """Send each piece in a packet of its own, as long as the server reads."""
        goal = self.there.arrived
        for piece in pieces:
            self.writer.write(piece)
            goal += len(piece)
            await self._arrival(goal)
            if self.there.transport.is_closing():
                return

    async def _arrival(self, goal: int) -> None:
        """Return when the server has read so much, or ends, or has not read for some turns because it has paused."""
        there, turns, turns_paused, deadline_s = self.there, 0, 0, monotonic() + _ARRIVAL_S_MAX
        while there.arrived < goal and turns_paused < _TURNS_MAX and not there.transport.is_closing():
            if monotonic() > deadline_s:
                pytest.fail(f"the server reads, and {goal - there.arrived} bytes did not arrive")
            turns, turns_paused = turns + 1, turns_paused + 1 if there.flow.read_paused else 0
            await asyncio.sleep(0 if turns < _TURNS_MAX else _POLL_S)

    def stop_reading(self) -> None:
        """Leave what the server sends with the system, which holds little of it on a narrow connection."""
        self._transport.pause_reading()

    def read_on(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    @property
    def _transport(self) -> asyncio.Transport:
        return cast(asyncio.Transport, self.writer.transport)

    async def answer(self) -> Reply:
        """The next answer, an interim one included."""
        async with asyncio.timeout(_ANSWER_S_MAX):
            head = await self.reader.readuntil(b"\r\n\r\n")
            start, *lines = head[:-4].split(b"\r\n")
            headers = [_header(line) for line in lines]
            length = int(dict(headers).get(b"content-length", b"0"))
            body = await self.reader.readexactly(length)
        version, status, _reason = start.split(b" ", 2)
        assert version == b"HTTP/1.1"
        return Reply(int(status), tuple(header for header in headers if header[0] != b"date"), body)

    async def rest(self) -> list[Reply]:
        """Every answer until the server closes the connection."""
        replies = []
        while (reply := await self._answer_or_end()) is not None:
            replies.append(reply)
        return replies

    async def _answer_or_end(self) -> Reply | None:
        try:
            return await self.answer()
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
        except ConnectionResetError:  # the server closed with something unread
            pass
        return None

    async def ask(self, *pieces: bytes) -> Reply:
        """The answer to what is sent in these packets."""
        await self.send(*pieces)
        return await self.answer()

    async def is_closed(self) -> bool:
        """Whether the server closes, having sent no more."""
        return await self.rest() == []


def request(target: str, *lines: str, method: str = "POST", body: bytes | None = None, version: str = "1.1") -> bytes:
    """The bytes of one request. ``lines``: headers beside ``host``, and ``content-length`` if there is a body."""
    length = () if body is None else (f"content-length: {len(body)}",)
    head = (f"{method} {target} HTTP/{version}", "host: x", *length, *lines, "", "")
    return "\r\n".join(head).encode("latin-1") + (body or b"")


def in_chunks(*chunks: bytes, trailer: bytes = b"") -> bytes:
    """A body in chunks, all of it."""
    return b"".join([b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks]) + b"0\r\n%b\r\n" % trailer


def claim(packet_id: str, *lines: str, query: str = "") -> bytes:
    """A request for a claim."""
    return request(f"/v1/packets/{packet_id}/claims{query}", *lines)


def bytewise(data: bytes) -> list[bytes]:
    """Each byte alone."""
    return [data[place : place + 1] for place in range(len(data))]


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, value = line.split(b": ", 1)
    return name, value


def says_close(reply: Reply) -> bool:
    """Whether the answer is its connection's last."""
    return (b"connection", b"close") in reply.headers
