"""A link to the stage's Postgres that counts the bytes that pass."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PIECE_BYTES_MAX = 65_536


@dataclass(slots=True)
class Counted:
    """``port``: where the link listens on 127.0.0.1. ``sent_bytes`` went to the server, the others came back."""

    port: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0


@contextmanager
def counting(upstream: Path) -> Iterator[Counted]:
    """Link a loopback port to the unix socket ``upstream`` during the block. The counts are whole after it."""
    counted, ready, loop = Counted(), threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(_serve(upstream, counted, ready, stop),))
    thread.start()
    try:
        ready.wait()
        yield counted
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def _serve(upstream: Path, counted: Counted, ready: threading.Event, stop: asyncio.Event) -> None:
    links: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(upstream)

        def sent(size: int) -> None:
            counted.sent_bytes += size

        def received(size: int) -> None:
            counted.received_bytes += size

        await asyncio.gather(_pass(reader, far_writer, sent), _pass(far_reader, writer, received))

    def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.create_task(accept(reader, writer))
        links.add(link)
        link.add_done_callback(links.discard)

    server = await asyncio.start_server(start, "127.0.0.1", 0)
    counted.port = server.sockets[0].getsockname()[1]
    ready.set()
    await stop.wait()
    server.close()
    for link in list(links):
        link.cancel()
    await asyncio.gather(*links, return_exceptions=True)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[int], None]) -> None:
    """Pass on what comes, until either side closes."""
    try:
        while piece := await reader.read(_PIECE_BYTES_MAX):
            note(len(piece))
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
