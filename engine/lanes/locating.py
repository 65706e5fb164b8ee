"""Connections that ask where their server is, each time that they are made.

So whatever makes a client connect again (a lost connection, a server that has become a replica, a slot that was moved)
also finds the right server. A stale answer does no lasting harm: a lane serves only on the server for which its lane
token was written, and every process learns within a second that the ledger has another (recovery/epochs.py).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError
from redis.exceptions import TimeoutError as RedisTimeoutError

Address = tuple[str, int]
"""A server's host and port."""
T = TypeVar("T")
_KEPT_S, _JITTER_S = 0.1, 0.1
"""How long an answer is used again, at least, and what chance adds: a storm of new connections asks once."""


class Locator(Protocol):
    """Knows where a server is."""

    async def address(self) -> Address:
        """Where it is now. Raises redis.exceptions.ConnectionError or TimeoutError if nobody says."""

    def doubt(self) -> None:
        """No connection could be made to the address: ask somebody else the next time."""

    def moved(self, host: str, port: int) -> None:
        """The server at the address says that what is looked for is there now. ``host`` empty: at the same host."""


class At:
    """Knows that a server is where it is: whatever the server says, its connections lead there."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def address(self) -> Address:
        """The address it was given."""
        return self._address

    def doubt(self) -> None:
        """Nobody else could be asked."""

    def moved(self, host: str, port: int) -> None:
        """Whoever speaks to this server wants no other."""


class MovedAwayError(RedisConnectionError):
    """The server refused because the lane's slot is another's now. Nothing was done, and a new connection finds it."""


class Shared(Generic[T]):
    """An answer that all who ask at the same time share, and that is used again for a moment."""

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._answer: T | None = None
        self._used_until_s = 0.0
        self._asking: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """The answer. Raises what ``ask`` raises."""
        if self._answer is not None and monotonic() < self._used_until_s:
            return self._answer
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._asked())
            self._asking.add_done_callback(_heard)
        return await asyncio.shield(self._asking)

    def forget(self) -> None:
        """Ask again the next time."""
        self._used_until_s = 0.0

    async def _asked(self) -> T:
        self._answer = await self._ask()
        self._used_until_s = monotonic() + _KEPT_S + random.random() * _JITTER_S  # noqa: S311 -- no secret
        return self._answer


def _heard(asking: "asyncio.Task[T]") -> None:
    """Take its error, if all who waited for it have given up meanwhile: asyncio would complain that nobody did."""
    if not asking.cancelled():
        asking.exception()


class Follows:
    """A connection that asks its locator each time that it is made. To be mixed in before redis-py's."""

    locator: Locator

    async def connect_check_health(self, *arguments: bool, **options: bool) -> None:
        """As in redis-py, which calls it for every attempt."""
        if not self.is_connected:  # type: ignore[attr-defined]
            self.host, self.port = await self.locator.address()
        try:
            await super().connect_check_health(*arguments, **options)  # type: ignore[misc]
        except (RedisConnectionError, RedisTimeoutError):
            self.locator.doubt()
            raise

    async def read_response(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401  # as in redis-py
        """As in redis-py, but a redirection is an error of the connection: its next one leads to the right server."""
        try:
            return await super().read_response(*arguments, **options)  # type: ignore[misc]
        except MovedError as error:
            self.locator.moved(error.host, error.port)
            raise MovedAwayError(f"MOVED {error}") from error
