"""A client's end of a connection that chooses every byte and every packet, and the bytes it may send."""

import asyncio
from typing import Generic, Protocol, TypeVar

from tests.both_ways import Reply

_ANSWER_S_MAX = 20.0
_TURNS_MAX = 50


class Counted(Protocol):
    """What a client's end needs to know of the server's."""

    transport: asyncio.Transport
    arrived: int


End = TypeVar("End", bound=Counted)


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
            for _ in range(_TURNS_MAX):
                if self.there.transport.is_closing():
                    return
                if self.there.arrived >= goal:
                    break
                await asyncio.sleep(0)

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
