"""Refuses a connection beyond the bound: it gets an answer, and a moment to read it."""

import asyncio

from api.limits import CONNECTIONS, OVERLOADED, Limits
from api.wire.prepared import whole

TURNED_AWAY_S = 1.0
"""How long a client may take to read the refusal."""


class Deaf:
    """Replaces the parser and discards what the client sends meanwhile."""

    def feed_data(self, data: bytes) -> None:
        """Nothing."""


def turn_away(transport: asyncio.Transport, limits: Limits, defaults: list[tuple[bytes, bytes]]) -> None:
    """Refuse the client and close. If too many are being refused, close without an answer."""
    limits.refused[CONNECTIONS] += 1
    loop = asyncio.get_running_loop()
    if limits.turned_away >= limits.turned_away_max:
        loop.call_soon(transport.abort)  # not during the connection's setup
        return

    def end() -> None:
        limits.turned_away -= 1
        transport.abort()

    limits.turned_away += 1
    transport.write(whole(OVERLOADED, defaults, is_last=True))
    loop.call_soon(_say_no_more, transport)  # not now: uvloop would drop what it has not begun to write
    loop.call_later(TURNED_AWAY_S, end)


def _say_no_more(transport: asyncio.Transport) -> None:
    if transport.can_write_eof() and not transport.is_closing():
        transport.write_eof()
