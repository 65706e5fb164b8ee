"""Builds the Redis clients from the settings' URL."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, Connection, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

from engine.errors import OperatorError
from engine.lanes.connections import Connections
from engine.lanes.failures import as_operators, is_away
from engine.lanes.locating import Address, Follows, Locator

RETRIES_MAX = 3
"""How often a lost connection is retried. A script may then run twice; all of ours answer a repeat as a repeat."""
_DRIVER = DriverInfo()
"""How redis-py names itself to the server. Without this, it looks up its version on the disk for each connection."""


def redis_client(url: str, *, connections_max: int, timeout_s: float, locator: Locator | None = None) -> Redis:
    """A client whose callers wait for a free connection (the default pool raises if none is free).

    ``timeout_s`` bounds each reply and the wait for a connection. ``locator``: who knows where the server is, if the
    URL does not. Raises OperatorError for an unusable URL.
    """
    with _redis_url_errors():
        pool = BlockingConnectionPool.from_url(
            url, max_connections=connections_max, timeout=timeout_s, **_connection_options(timeout_s)
        )
    return Redis.from_pool(_noticing(pool, _LeavesReplicas, locator))


def redis_connections(
    url: str, *, connections_max: int, timeout_s: float, place: str = "", locator: Locator | None = None
) -> Connections:
    """Kept connections for calls that come by the thousand. Otherwise as ``redis_client``."""
    with _redis_url_errors():
        pool = ConnectionPool.from_url(url, **{**_connection_options(timeout_s), "socket_timeout": None})
    noticing = _noticing(pool, _NoticesClosing, locator)
    return Connections(noticing, connections_max=connections_max, timeout_s=timeout_s, place=place)


def redis_connection(url: str, address: Address, *, timeout_s: float) -> Connection:
    """One connection to ``address``, with all that ``url`` says but its host and port.

    It is tried once: whoever asks several servers goes on to the next.
    """
    with _redis_url_errors():
        pool = ConnectionPool.from_url(url, **{**_connection_options(timeout_s), "retry": Retry(NoBackoff(), 0)})
    pool.connection_kwargs |= {"host": address[0], "port": address[1]}
    connection: Connection = _noticing(pool, _NoticesClosing, None).make_connection()  # type: ignore[no-untyped-call]
    return connection


class _NoticesClosing:
    """A connection that was closed a moment ago: by its server, or by another task (a pool's ``disconnect``).

    Nobody expects the errors of a write to it: uvloop's RuntimeError, and AttributeError because the writer is gone.
    """

    async def send_packed_command(self, command: str | bytes | Iterable[bytes], check_health: bool = True) -> None:
        """As in redis-py, which disconnects before it raises."""
        try:
            await super().send_packed_command(command, check_health)  # type: ignore[misc]  # of the class beside it
        except (RuntimeError, AttributeError) as error:
            raise RedisConnectionError(f"The connection was closed: {error}") from error


class _LeavesReplicas(_NoticesClosing):
    """If the server has become a replica, the connection is not used again: its address may lead to the new primary."""

    async def read_response(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401  # as in redis-py
        """As in redis-py."""
        try:
            return await super().read_response(*arguments, **options)  # type: ignore[misc]
        except ResponseError as error:
            if isinstance(error, ReadOnlyError) or str(error).startswith("UNBLOCKED"):
                self.mark_for_reconnect()  # type: ignore[attr-defined]
            raise


Pool = TypeVar("Pool", bound=ConnectionPool)


def _noticing(pool: Pool, kind: type[_NoticesClosing], locator: Locator | None) -> Pool:
    """The same pool, but its connections raise redis-py's own error if they were closed, and may ask a locator."""
    of_scheme = pool.connection_class
    if locator is None:
        pool.connection_class = type(of_scheme.__name__, (kind, of_scheme), {})
    else:
        pool.connection_class = type(of_scheme.__name__, (kind, Follows, of_scheme), {"locator": locator})
    return pool


def _connection_options(timeout_s: float) -> dict[str, Any]:
    return {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        # A timeout is not retried: the caller has waited long enough.
        "retry": Retry(ExponentialBackoff(cap=0.2, base=0.02), RETRIES_MAX, (RedisConnectionError,)),
        # A plain Redis or Valkey refuses the command for these notifications.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        "protocol": 2,
        "driver_info": _DRIVER,
    }


@contextmanager
def _redis_url_errors() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise OperatorError(f"HONGBAO_REDIS_URL cannot be used: {error}.") from None


async def command(client: Redis, *words: str | bytes | int) -> Any:  # noqa: ANN401
    """Send one command; the reply as the client parses it (redis-py types its replies too loosely to be of use)."""
    return await client.execute_command(*words)  # type: ignore[no-untyped-call]


async def why_silent(client: Redis) -> str | None:
    """A sentence if Redis does not answer, or not yet; None if it does. Raises OperatorError if it refuses."""
    try:
        await command(client, "PING")
    except (RedisError, OSError) as error:
        if is_away(error):
            return str(as_operators(error))
        raise as_operators(error) from None
    return None


async def check_redis(client: Redis) -> None:
    """Raise OperatorError, with one sentence, if Redis does not answer or refuses."""
    try:
        await command(client, "PING")
    except (RedisError, OSError) as error:
        raise as_operators(error) from None
