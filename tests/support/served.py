"""The server in this process, on a real socket, with packets to claim, and Redis held up for as long as it takes."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from api.app import create_app
from api.dispatch import Front
from api.server import _Server
from api.wire.connection import Connection
from api.wire.fast_claims import Asker
from engine.access.tokens import issue, load_secret
from engine.lanes.clients import command, redis_client
from engine.settings import Settings
from tests.support.both_ways import Reply
from tests.support.scenes import send
from tests.support.waiting import wait_until
from tests.support.wire import Wire, request, says_close, streams


class Watched(Connection):
    """The server's end of a connection, which tells what arrived, which claims went the short way, and what queued."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # those of ``Connection``
        super().__init__(*arguments, **options)
        self.arrived = self.queued_max = 0
        self.were_taken: list[bool] = []
        self.known = 0  # of those, the ones that were not parsed
        self._watched, self._take = self._take, self._take_and_tell

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.arrived += len(data)
        self.queued_max = max(self.queued_max, len(self.pipeline))

    def _take_and_tell(
        self, method: bytes, target: bytes, pairs: list[tuple[bytes, bytes]], asker: Asker
    ) -> bytes | None:
        taken = self._watched(method, target, pairs, asker)
        self.were_taken.append(taken is not None)
        return taken

    def _is_known(self, data: bytes) -> bool:
        is_known = super()._is_known(data)
        if is_known:
            self.known += 1
            self.were_taken.append(True)
        return is_known


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server in this process. ``task`` ends when it has stopped."""

    port: int
    narrow_port: int
    """Of its connections the system holds little."""
    front: Front
    server: _Server
    task: asyncio.Task[None]
    secret: bytes

    def authorized(self, user: str, *scopes: str) -> str:
        """The header of a user's token, which the server has seen."""
        token = issue(self.secret, user, scopes or ("claim",), 3_600).encode()
        self.front.verifier.verify(token)
        return f"authorization: Bearer {token.decode()}"

    def connections(self) -> set[Watched]:
        """The server's ends of all connections there are."""
        return {connection for connection in self.server.server_state.connections if isinstance(connection, Watched)}

    @asynccontextmanager
    async def connected(self, *, is_narrow: bool = False) -> AsyncIterator[Wire[Watched]]:
        """A new connection. ``is_narrow``: the system holds little between client and server."""
        before, client = self.connections(), socket.socket()
        client.setblocking(False)
        if is_narrow:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NARROW_BYTES)
        await asyncio.get_running_loop().sock_connect(
            client, ("127.0.0.1", self.narrow_port if is_narrow else self.port)
        )
        reader, writer = await streams(client)
        try:
            (there,) = await wait_until(lambda: self.connections() - before, what="the server taking a connection")
            yield Wire(reader, writer, there)
        finally:
            writer.close()

    async def ask(self, *pieces: bytes) -> list[Reply]:
        """Send these packets on a new connection; every answer until the server closes it, or has no more to give."""
        async with self.connected() as wire:
            await wire.send(*pieces, _LAST)
            replies = await wire.rest()
        return replies[:-1] if _is_last(replies[-1]) else replies

    async def ask_one(self, *pieces: bytes) -> Reply:
        """The one answer to what is sent in these packets."""
        (reply,) = await self.ask(*pieces)
        return reply


@asynccontextmanager
async def serving_here(settings: Settings) -> AsyncIterator[Served]:
    """The server in this process, on a free port; it is stopped in the end if it was not before."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        # What a connection's buffers hold is settled when it is made; the server's end has the listener's.
        listener, narrow = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _NARROW_BYTES)
        server = _Server(app)
        made: Any = server.config.http_protocol_class
        server.config.http_protocol_class = partial(Watched, *made.args)  # type: ignore[assignment]
        port, narrow_port = (each.getsockname()[1] for each in (listener, narrow))
        task = asyncio.create_task(server.serve([listener, narrow]))
        await wait_until(lambda: server.started, what="the server listening")
        try:
            yield Served(
                port=port,
                narrow_port=narrow_port,
                front=app.state.front,
                server=server,
                task=task,
                secret=load_secret(settings),
            )
        finally:
            server.should_exit = True
            await task


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A server, and packets in states that do not change. The process remembers the one that is sold out."""

    served: Served
    sold_out: str
    open: str
    for_others: str
    bob: str
    backend: str


@asynccontextmanager
async def open_world(settings: Settings) -> AsyncIterator[World]:
    """The server and its packets, until the end of the block."""
    async with serving_here(settings) as served:
        engine = served.front.engine
        packets = {
            "sold_out": (await send(engine, count=1, total_fen=100)).packet_id,
            "open": (await send(engine, count=500, total_fen=50_000)).packet_id,
            "for_others": (await send(engine, count=1, total_fen=100, recipients=["carol", "dave"])).packet_id,
        }
        for user, packet_id in (("bob", packets["sold_out"]), ("eve", packets["sold_out"]), ("bob", packets["open"])):
            await engine.claims.claim(packet_id, user)
        await wait_until(lambda: engine.claims.finished.answer(packets["sold_out"], "eve"), what="it being remembered")
        yield World(served=served, bob=served.authorized("bob"), backend=served.authorized("backend", "act"), **packets)


@asynccontextmanager
async def redis_held(settings: Settings) -> AsyncIterator[None]:
    """Redis answers nobody who wants to write, until the end of the block."""
    async with redis_client(str(settings.redis_url), connections_max=1, timeout_s=5.0) as client:
        await command(client, "CLIENT", "PAUSE", 60_000, "WRITE")
        try:
            yield
        finally:
            await command(client, "CLIENT", "UNPAUSE")


def _is_last(reply: Reply) -> bool:
    return says_close(reply) and reply.body.endswith(b'"code":"not_found"}')


def held_bytes_max(wire: Wire[Watched]) -> int:
    """How much of what the server sends the system may hold, by its own account."""
    ends = ((wire.writer, socket.SO_RCVBUF), (wire.there.transport, socket.SO_SNDBUF))
    return sum(end.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, option) for end, option in ends)


_NARROW_BYTES = 4_096
_LAST = request("/no/such/path", "connection: close")
