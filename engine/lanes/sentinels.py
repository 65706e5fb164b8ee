"""Asks Sentinels which server is the master now.

redis-py's own pool for Sentinel does not ask again while it retries. Here every new connection asks (``locating``).
"""

import asyncio
from collections import deque
from urllib.parse import quote

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from engine.lanes.clients import redis_connection
from engine.lanes.locating import Address, Shared
from engine.redis_servers import Watched


class Sentinels:
    """The Sentinels of one master. ``timeout_s`` bounds a question to all of them: each gets an equal part of it."""

    def __init__(self, watched: Watched, *, timeout_s: float) -> None:
        self._watched, self._timeout_s = watched, timeout_s
        self._order = deque(watched.sentinels)
        self._master = Shared(self._ask)

    async def address(self) -> Address:
        """The master's host and port. All who ask at the same time get one answer.

        Raises redis.exceptions.ConnectionError if no Sentinel answers, or none knows the master. If one of them was
        waited for in vain, it is that module's TimeoutError, which no client retries.
        """
        return await self._master.get()

    def doubt(self) -> None:
        """Sentinels agree among each other: the same one is asked again soon."""

    def moved(self, host: str, port: int) -> None:
        """A cluster's server behind Sentinels: nobody can have meant that. The error says so."""

    async def _ask(self) -> Address:
        whys: list[str] = []
        kind: type[RedisError] = RedisConnectionError
        for host, port in tuple(self._order):
            try:
                return await self._asked(host, port)
            except (RedisError, OSError, TimeoutError) as error:
                kind = RedisTimeoutError if isinstance(error, (TimeoutError, RedisTimeoutError)) else kind
                whys.append(f"{host}:{port}: {str(error) or type(error).__name__}")
                self._order.rotate(-1)  # the next time, those that answer come first
        raise kind(f"no Sentinel names the master {self._watched.name} ({'; '.join(whys)})")

    async def _asked(self, host: str, port: int) -> Address:
        """What one Sentinel says."""
        watched, password = self._watched, self._watched.sentinel_password
        url = "redis://" if password is None else f"redis://:{quote(password, safe='')}@"
        connection = redis_connection(f"{url}0.0.0.0/", (host, port), timeout_s=self._timeout_s)
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
