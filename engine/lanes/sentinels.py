"""Asks Sentinels which server is the master now.

redis-py's own pool for Sentinel does not ask again while it retries. Here every new connection asks, so that whatever
makes a client connect again (a lost connection, a server that has become a replica) also finds the new master.
A stale answer does no lasting harm: a lane serves only on the server for which its lane token was written, and every
process learns within a second that the ledger has another (recovery/epochs.py).
"""

import asyncio
import random
from collections import deque
from time import monotonic

from redis.asyncio import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from engine.redis_servers import Watched

_KEPT_S, _JITTER_S = 0.1, 0.1
"""How long an answer is used again, at least, and what chance adds: a storm of new connections asks once."""


class Sentinels:
    """The Sentinels of one master. ``timeout_s`` bounds a question to all of them: each gets an equal part of it."""

    def __init__(self, watched: Watched, *, timeout_s: float) -> None:
        self._watched, self._timeout_s = watched, timeout_s
        self._order = deque(watched.sentinels)
        self._address: tuple[str, int] | None = None
        self._used_until_s = 0.0
        self._asking: asyncio.Task[tuple[str, int]] | None = None

    async def master(self) -> tuple[str, int]:
        """The master's host and port. All who ask at the same time get one answer.

        Raises redis.exceptions.ConnectionError if no Sentinel answers, or none knows the master. If one of them was
        waited for in vain, it is that module's TimeoutError, which no client retries.
        """
        if self._address is not None and monotonic() < self._used_until_s:
            return self._address
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(_heard)
        return await asyncio.shield(self._asking)

    async def _ask(self) -> tuple[str, int]:
        whys: list[str] = []
        kind: type[RedisError] = RedisConnectionError
        for host, port in tuple(self._order):
            try:
                self._address = await self._asked(host, port)
            except (RedisError, OSError, TimeoutError) as error:
                kind = RedisTimeoutError if isinstance(error, (TimeoutError, RedisTimeoutError)) else kind
                whys.append(f"{host}:{port}: {str(error) or type(error).__name__}")
                self._order.rotate(-1)  # the next time, those that answer come first
            else:
                self._used_until_s = monotonic() + _KEPT_S + random.random() * _JITTER_S  # noqa: S311 -- no secret
                return self._address
        raise kind(f"no Sentinel names the master {self._watched.name} ({'; '.join(whys)})")

    async def _asked(self, host: str, port: int) -> tuple[str, int]:
        """What one Sentinel says."""
        watched = self._watched
        connection = Connection(host=host, port=port, password=watched.sentinel_password, protocol=2)
        try:
            async with asyncio.timeout(self._timeout_s / len(watched.sentinels)):
                await connection.connect()  # type: ignore[no-untyped-call]
                await connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", watched.name)
                found = await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)
        if not found:
            raise RedisConnectionError("it does not know this name")
        return found[0].decode(), int(found[1])


def _heard(asking: "asyncio.Task[tuple[str, int]]") -> None:
    """Take its error, if all who waited for it have given up meanwhile: asyncio would complain that nobody did."""
    if not asking.cancelled():
        asking.exception()


class FollowsMaster:
    """A connection that asks, each time that it is made, where the master is. To be mixed in before redis-py's."""

    sentinels: Sentinels

    async def connect_check_health(self, *arguments: bool, **options: bool) -> None:
        """As in redis-py, which calls it for every attempt."""
        if not self.is_connected:  # type: ignore[attr-defined]
            self.host, self.port = await self.sentinels.master()
        await super().connect_check_health(*arguments, **options)  # type: ignore[misc]
