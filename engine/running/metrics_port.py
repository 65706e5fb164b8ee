"""HTTP for probes and scrapers of a process that has no API: `/livez` and `/metrics`, on `HONGBAO_METRICS_PORT`.

It runs in the event loop that does the work. So if the loop hangs, the probe fails.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from engine.errors import OperatorError
from engine.observability import metrics
from engine.settings import Settings
from engine.supervision.ports import family_of

_HEAD_BYTES_MAX = 16_384
_ANSWER_S_MAX = 5.0
"""How long a client may take to send its request and to take the answer."""
_TEXT = "text/plain; charset=utf-8"


@asynccontextmanager
async def shown(settings: Settings) -> AsyncIterator[None]:
    """Answer on ``settings.host`` while the block runs, if the settings name a port.

    Raises OperatorError if the address cannot be used.
    """
    if settings.metrics_port is None:
        yield
        return
    family = family_of(settings.host)
    try:
        server = await asyncio.start_server(
            _answer, settings.host, settings.metrics_port, family=family, limit=_HEAD_BYTES_MAX
        )
    except OSError as error:
        why = (error.strerror or str(error)).rstrip(".")
        where = f"{settings.host} port {settings.metrics_port}"
        raise OperatorError(f"Cannot listen on {where}, which HONGBAO_METRICS_PORT names: {why}.") from None
    try:
        yield
    finally:
        server.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request, and close the connection. A client that sends something else gets no answer."""
    try:
        with suppress(TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_ANSWER_S_MAX):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await _reply(head.split(b" ", 2)))
                await writer.drain()
    finally:
        writer.close()


async def _reply(line: list[bytes]) -> bytes:
    match line:
        case [b"GET", target, _] if target.partition(b"?")[0] == b"/metrics":
            return _response("200 OK", metrics.CONTENT_TYPE, await asyncio.to_thread(metrics.render))
        case [b"GET", b"/livez", _]:
            return _response("200 OK", _TEXT, b"live\n")
    return _response("404 Not Found", _TEXT, b"There are only GET /livez and GET /metrics.\n")


def _response(status: str, content_type: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
