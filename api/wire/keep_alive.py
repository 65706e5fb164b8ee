"""How long a connection is kept without a request, and the header that reports it.

If the server closes a connection just as the client sends a request, the client sees a reset. So each answer but a
connection's last reports how long the connection may be used (``Keep-Alive: timeout=70``). This is shorter than it is
kept, so clients that read the header close it first.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

Header = tuple[bytes, bytes]
_MARGIN_S = 5
"""The header reports this much less (at most half), because answers take time and a client's clock may be late."""


def keep_alive_header(kept_s: int) -> Header:
    """The header for a connection that is kept for ``kept_s``."""
    return b"keep-alive", b"timeout=%d" % (kept_s - min(_MARGIN_S, kept_s // 2))


def saying(
    keep_alive: Header, cycle: RequestResponseCycle, app: Callable[..., Awaitable[Any]]
) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """``app`` with the header ``keep_alive`` in its answer, unless it turns out to be its connection's last."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def say(message: Message) -> None:
            if message["type"] == "http.response.start" and cycle.keep_alive:
                headers = message["headers"]
                if all(name != b"connection" for name, _ in headers):
                    message["headers"] = [keep_alive, *headers]
            await send(message)

        await app(scope, receive, say)

    return answer
