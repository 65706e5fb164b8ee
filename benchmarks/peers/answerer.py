"""Answers every request with the same bytes, and reads none: what a load generator can do when no server works.

``python -m benchmarks.peers.answerer`` listens on PORT. It is no peer.
"""

import asyncio
import os
from typing import cast

import uvloop

_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 95\r\n\r\n"
    b'{"outcome":"claimed","amount_fen":1000,"packet_id":"1000000000000000000","user_id":"u0000001"} '
)


class _Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n"):  # a generator has one request in progress per connection
            self._transport.write(_ANSWER)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", int(os.environ["PORT"]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
