"""A proxy in front of a server that fails in the ways in which networks and proxies do, one after another."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

_GONE = b"HTTP/1.1 %d Gone\r\nContent-Length: 4\r\nRetry-After: 0\r\nConnection: close\r\n\r\ngone"


class Fault(StrEnum):
    """What becomes of one request and its answer."""

    CUT_BEFORE = "cut before the request is passed on"
    CUT_WITHOUT_ANSWER = "cut after the request was carried out, before its answer"
    CUT_IN_ANSWER = "cut in the middle of the answer"
    CUT_AFTER = "cut after the answer, which promised to stay"
    SILENT_BEFORE = "silent, and the request is not passed on"
    SILENT_AFTER = "silent, after the request was carried out"
    STATUS_502 = "502 after the request was carried out"
    STATUS_503 = "503 with Retry-After, and the request is not passed on"
    STATUS_504 = "504 after the request was carried out"


_PASSED_ON = {
    Fault.CUT_WITHOUT_ANSWER,
    Fault.CUT_IN_ANSWER,
    Fault.CUT_AFTER,
    Fault.SILENT_AFTER,
    Fault.STATUS_502,
    Fault.STATUS_504,
}


@dataclass(slots=True)
class Request:
    """A request as it came. ``headers``: names in small letters."""

    line: str
    headers: dict[str, str]
    body: bytes
    raw: bytes


@dataclass(slots=True)
class Cutter:
    """``faults``: for the next requests, each in its turn; the others are passed on. ``got``: every request."""

    target: int
    port: int = 0
    faults: list[Fault] = field(default_factory=list)
    got: list[Request] = field(default_factory=list)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Its address for HTTP clients."""
        return f"http://127.0.0.1:{self.port}"

    def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._pass_on(reader, writer):
                pass
        writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request. Returns whether the connection stays."""
        request = await _message(reader)
        self.got.append(request)
        fault = self.faults.pop(0) if self.faults else None
        answer = await self._asked(request.raw) if fault is None or fault in _PASSED_ON else b""
        match fault:
            case Fault.SILENT_BEFORE | Fault.SILENT_AFTER:
                await reader.read()  # until the client gives up
            case Fault.STATUS_502 | Fault.STATUS_503 | Fault.STATUS_504:
                writer.write(_GONE % int(fault[:3]))
            case Fault.CUT_IN_ANSWER:
                writer.write(answer[:-3])
            case Fault.CUT_AFTER | None:
                writer.write(answer)
        await writer.drain()
        return fault is None

    async def _asked(self, raw: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            writer.write(raw)
            return (await _message(reader)).raw
        finally:
            writer.close()

    async def end(self) -> None:
        """Close everything that is open."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _message(reader: asyncio.StreamReader) -> Request:
    """A request or an answer, whose head says how long it is."""
    head = await reader.readuntil(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(line, headers, body, head + body)


@asynccontextmanager
async def cutting(target: int) -> AsyncIterator[Cutter]:
    """A proxy in front of a port of loopback, gone after the block."""
    cutter = Cutter(target)
    server = await asyncio.start_server(cutter, "127.0.0.1", 0)
    cutter.port = server.sockets[0].getsockname()[1]
    try:
        yield cutter
    finally:
        server.close()
        await cutter.end()
