"""A way to a real Redis on which some commands are refused, as editions of cloud services refuse them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from hiredis import Reader, pack_command

LITERAL_KEYS = (
    b"-ERR bad lua script for redis cluster, all the keys that the script uses should be passed using the KEYS array, "
    b"and KEYS should not be in expression\r\n"
)


@asynccontextmanager
async def refusing(url: str, refusal: bytes, *commands: bytes) -> AsyncIterator[str]:
    """The URL of a proxy to ``url`` that answers some commands with ``refusal`` and passes all others on."""
    parts = urlsplit(url)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if parts.scheme == "unix":
            there, back = await asyncio.open_unix_connection(parts.path)
        else:
            there, back = await asyncio.open_connection(parts.hostname, parts.port)
        asked, answered = Reader(), Reader()
        try:
            while data := await reader.read(65_536):
                asked.feed(data)
                while (words := asked.gets()) is not False:
                    if words[0].upper() in commands:
                        writer.write(refusal)
                    else:
                        back.write(pack_command(tuple(words)))
                        writer.write(await _one_reply(there, answered))
                await writer.drain()
        finally:
            for side in (back, writer):
                side.close()
                with suppress(OSError):
                    await side.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        server.close()


async def _one_reply(there: asyncio.StreamReader, answered: Reader) -> bytes:
    """The bytes of one whole reply; nothing else is on its way, for commands go one by one."""
    data = b""
    while True:
        part = await there.read(65_536)
        if not part:
            raise ConnectionError("the server hung up")
        data += part
        answered.feed(part)
        if answered.gets() is not False:
            return data
