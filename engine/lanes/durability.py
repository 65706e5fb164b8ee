"""What a Redis server can confirm about its writes: that they are on its disk, that its replicas have them."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from engine.errors import OperatorError
from engine.lanes.clients import command
from engine.lanes.failures import failure_of

_WANTED = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}
"""With these settings a server answers only after its append-only file is on the disk.

WAITAOF is not enough: under ``everysec``, Valkey (up to 9.1 at least) and Redis before 8.0 report that a write is on
the disk as soon as it is in the file (redis/redis#13793).
"""


class FsyncBy(Enum):
    """How a server with these settings confirms that its writes are on its disk."""

    WAITAOF = auto()  # by the answer to this command (Redis since 7.2, Valkey)
    ALWAYS = auto()  # by any answer: it answers only afterwards


async def fsync_by(client: Redis) -> FsyncBy:
    """How this server confirms it. Raises OperatorError (one sentence) if it cannot, UnavailableError if silent."""
    found = {**await _config(client, "append*"), **await _config(client, "no-appendfsync-on-rewrite")}
    wrong = [f"{name} {wanted}" for name, wanted in _WANTED.items() if found.get(name) != wanted]
    if wrong:
        raise OperatorError(f"Claims cannot be acknowledged by fsync: Redis must be set to {' and '.join(wrong)}.")
    try:
        await command(client, "WAITAOF", 1, 0, 1)
    except ResponseError as error:
        if isinstance(error, NoPermissionError) or "unknown command" in str(error).lower():
            return FsyncBy.ALWAYS
        raise OperatorError(f"Claims cannot be acknowledged by fsync: Redis answers WAITAOF with {error}.") from None
    except (RedisError, OSError) as error:
        raise failure_of(error) from error
    return FsyncBy.WAITAOF


async def connected_replicas(client: Redis) -> int:
    """How many replicas are connected and in sync at this moment. Raises UnavailableError."""
    try:
        told: Mapping[str, Any] = await command(client, "INFO", "replication")
    except (RedisError, OSError) as error:
        raise failure_of(error) from error
    replicas = [value for name, value in told.items() if name.removeprefix("slave").isdigit()]
    return sum(replica["state"] == "online" for replica in replicas)


async def _config(client: Redis, pattern: str) -> Mapping[str, str]:
    try:
        told: Any = await command(client, "CONFIG", "GET", pattern)
    except ResponseError as error:
        raise OperatorError(
            f"Claims cannot be acknowledged by fsync: Redis does not report its configuration ({error})."
        ) from None
    except (RedisError, OSError) as error:
        raise failure_of(error) from error
    if not isinstance(told, Mapping):
        told = dict(zip(told[::2], told[1::2], strict=True))
    return {_text(name): _text(value) for name, value in told.items()}


def _text(word: str | bytes) -> str:
    return word.decode() if isinstance(word, bytes) else word
