"""A few kept connections for the calls that come by the thousand.

redis-py's client takes about 100 us of Python a call to lend a connection, to pack a long command word by word and to
guard each step with a timer. A connection that is kept, packed for in C and guarded once does the same in a fraction.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from hiredis import pack_command
from redis.asyncio import Connection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError


class Connections:
    """At most ``connections_max`` calls at a time, each on a connection of its own; others wait.

    ``timeout_s`` bounds a call with its wait, its connecting and its one repeat. A connection that was lost is made
    anew and the call sent again, once: what is called must answer a repeat as a repeat.
    """

    def __init__(self, pool: ConnectionPool, *, connections_max: int, timeout_s: float) -> None:
        self._new_connection: Callable[[], Connection] = pool.make_connection
        self._timeout_s = timeout_s
        self._idle: list[Connection] = []
        self._turns = asyncio.Semaphore(connections_max)

    async def call(self, *words: str | bytes | int) -> Any:  # noqa: ANN401 -- whatever the command replies
        """Send one command; its reply as it came. Raises redis.exceptions.RedisError."""
        packed = pack_command(words)  # type: ignore[arg-type]  # its stub says a tuple of one
        try:
            async with asyncio.timeout(self._timeout_s), self._turns:
                connection = self._idle.pop() if self._idle else self._new_connection()
                try:
                    return await _answer(connection, packed)
                finally:
                    self._idle.append(connection)
        except TimeoutError:
            raise RedisTimeoutError(f"no answer within {self._timeout_s:g} s") from None

    async def aclose(self) -> None:
        """Close every connection; no call may be under way."""
        while self._idle:
            await self._idle.pop().disconnect()


async def _answer(connection: Connection, packed: bytes) -> Any:  # noqa: ANN401 -- whatever the command replies
    try:
        try:
            await connection.send_packed_command(packed, check_health=False)
            return await connection.read_response()
        except RedisConnectionError:
            await connection.disconnect(nowait=True)
            await connection.send_packed_command(packed, check_health=False)
            return await connection.read_response()
    except (RedisConnectionError, asyncio.CancelledError):
        # A reply may still be on its way to whoever would use the connection next.
        await connection.disconnect(nowait=True)
        raise
