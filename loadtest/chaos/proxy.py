"""The network between our processes and their servers. Every link goes through a proxy that can cut it."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import uvloop

from loadtest.chaos.schedule import CUTS, Kind

DELAY_S = 0.05
_PIECE_BYTES_MAX = 65_536
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing a connection resets it."""
_START_S_MAX = 10.0


class Link:
    """A link to a server on the unix socket ``upstream``. Once started, it listens on ``port`` of 127.0.0.1."""

    def __init__(self, upstream: Path) -> None:
        self._upstream = upstream
        self._cut: Kind | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._connections: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Reset open connections and accept no more."""
        if self._server is not None:
            self._server.close()
            self._cut = Kind.REFUSE
            self._reset()
            self._open.set()
            await self._server.wait_closed()

    def cut(self, kind: Kind) -> None:
        """Cut the link as ``kind`` says (``schedule.CUTS``)."""
        if kind not in CUTS:
            raise ValueError(f"{kind} does not cut a link")
        self._cut = None if kind is Kind.RESET else kind
        if kind in (Kind.RESET, Kind.REFUSE):
            self._reset()
        if kind is Kind.SILENCE:
            self._open.clear()
        else:
            self._open.set()

    def restore(self) -> None:
        """Restore the link. Connections that have lost data are reset."""
        if self._cut is Kind.MUTE:
            self._reset()
        self._cut = None
        self._open.set()

    async def _accept(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        await self._open.wait()
        if self._cut is Kind.REFUSE:
            _reset(client_out)
            return
        try:
            server_in, server_out = await asyncio.open_unix_connection(self._upstream)
        except OSError:
            _reset(client_out)
            return
        pair = (client_out, server_out)
        self._connections.add(pair)
        directions = (
            asyncio.create_task(self._carry(client_in, server_out, answers=False)),
            asyncio.create_task(self._carry(server_in, client_out, answers=True)),
        )
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            self._connections.discard(pair)
            for out in pair:
                out.close()

    async def _carry(self, come_in: asyncio.StreamReader, go_out: asyncio.StreamWriter, *, answers: bool) -> None:
        """Pass data on until it ends. During a silence the end is not passed on, either."""
        with contextlib.suppress(OSError):
            while piece := await come_in.read(_PIECE_BYTES_MAX):
                await self._open.wait()
                if self._cut is Kind.DELAY:
                    await asyncio.sleep(DELAY_S)
                if self._cut is Kind.MUTE and answers:
                    continue
                go_out.write(piece)
                await go_out.drain()
        await self._open.wait()

    def _reset(self) -> None:
        for pair in self._connections:
            for out in pair:
                _reset(out)


def _reset(out: asyncio.StreamWriter) -> None:
    connection = out.get_extra_info("socket")
    if connection.family != socket.AF_UNIX:
        with contextlib.suppress(OSError, ValueError):  # it is already closed; then uvloop knows no descriptor any more
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    out.transport.abort()


class Network:
    """Links by name, on an event loop in a separate thread, so that they work whatever the main thread does.

    Use it as ``with Network({name: unix socket}) as network``.
    """

    def __init__(self, upstreams: Mapping[str, Path]) -> None:
        self._upstreams = upstreams
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._links: dict[str, Link] = {}

    def __enter__(self) -> Self:
        """Start all links."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(_START_S_MAX)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop all links."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(_START_S_MAX)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def ports(self) -> dict[str, int]:
        """The port of each link."""
        return {name: link.port for name, link in self._links.items()}

    def cut(self, name: str, kind: Kind) -> None:
        """Cut a link."""
        self._at_once(lambda: self._links[name].cut(kind))

    def restore(self, name: str) -> None:
        """Restore a link."""
        self._at_once(self._links[name].restore)

    def _at_once(self, work: Callable[[], None]) -> None:
        """Do ``work`` in the links' thread, and wait for it."""

        async def do() -> None:
            work()

        asyncio.run_coroutine_threadsafe(do(), self._loop).result(_START_S_MAX)

    async def _start(self) -> None:
        for name, upstream in self._upstreams.items():
            self._links[name] = link = Link(upstream)
            await link.start()

    async def _stop(self) -> None:
        await asyncio.gather(*(link.stop() for link in self._links.values()))
        waiting = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
