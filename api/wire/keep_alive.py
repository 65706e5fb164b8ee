"""How long a connection is kept without a request, and what clients are told of it.

If the server closes a connection just as its client asks on it, the client sees a reset. So each answer but a
connection's last says how long it may be used (``Keep-Alive: timeout=70``), which is less than it is kept. Clients
that read this let go first.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

Header = tuple[bytes, bytes]
_MARGIN_S = 5
"""A client is told so much less, for its answers take time to arrive and its clock may be late; at most half of it."""


def keep_alive_header(kept_s: int) -> Header:
    """What answers say of a connection that is kept for ``kept_s``."""
    return b"keep-alive", b"timeout=%d" % (kept_s - min(_MARGIN_S, kept_s // 2))


def saying(
    keep_alive: Header, cycle: RequestResponseCycle, app: Callable[..., Awaitable[Any]]
) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """``app``, whose answer says ``keep_alive`` unless it is its connection's last, which is known when it is sent."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def say(message: Message) -> None:
            if message["type"] == "http.response.start" and cycle.keep_alive:
                headers = message["headers"]
                if all(name != b"connection" for name, _ in headers):
                    message["headers"] = [keep_alive, *headers]
            await send(message)

        await app(scope, receive, say)

    return answer
