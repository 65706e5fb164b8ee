"""Kept connections: as many calls as there are connections, each answered its own, whatever happens to a connection."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from engine.lanes.clients import command, redis_connections
from engine.lanes.connections import Connections
from tests.support.waiting import wait_until


@pytest.fixture
async def connections(redis_url: str) -> AsyncIterator[Connections]:
    kept = redis_connections(redis_url, connections_max=2, timeout_s=5.0)
    yield kept
    await kept.aclose()


async def client_ids(connections: Connections, calls: int) -> set[int]:
    return set(await asyncio.gather(*(connections.call("CLIENT", "ID") for _ in range(calls))))


async def test_replies_come_as_they_are_to_whoever_asked(connections: Connections) -> None:
    replies = await asyncio.gather(*(connections.call("ECHO", str(number)) for number in range(50)))
    assert replies == [str(number).encode() for number in range(50)]


async def test_no_more_connections_than_allowed_and_they_are_kept(connections: Connections) -> None:
    first = await client_ids(connections, 20)
    assert 1 <= len(first) <= 2
    assert await client_ids(connections, 20) <= first


async def test_a_connection_that_was_cut_is_made_anew(connections: Connections, redis: Redis) -> None:
    await client_ids(connections, 2)
    await command(redis, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert await connections.call("ECHO", "still here") == b"still here"


async def test_an_error_of_the_server_is_raised_and_the_connection_goes_on(connections: Connections) -> None:
    with pytest.raises(ResponseError):
        await connections.call("NO-SUCH-COMMAND")
    assert await connections.call("ECHO", "fine") == b"fine"


async def test_a_caller_that_goes_away_leaves_no_reply_behind(connections: Connections, redis: Redis) -> None:
    waiting = asyncio.create_task(connections.call("BLPOP", "nothing", 0))

    async def is_blocked() -> bool:
        return bool((await command(redis, "INFO", "clients"))["blocked_clients"])

    await wait_until(is_blocked, what="the call being under way")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    replies = await asyncio.gather(*(connections.call("ECHO", str(number)) for number in range(20)))
    assert replies == [str(number).encode() for number in range(20)]


async def test_silence_is_an_error_after_the_timeout(redis_url: str) -> None:
    kept = redis_connections(redis_url, connections_max=1, timeout_s=0.2)
    with pytest.raises(RedisError, match="no answer"):
        await kept.call("BLPOP", "nothing", 0)
    assert await kept.call("ECHO", "again") == b"again"
    await kept.aclose()


async def test_no_server_is_an_error_within_the_timeout(port: int) -> None:
    kept = redis_connections(f"redis://127.0.0.1:{port}", connections_max=1, timeout_s=2.0)
    with pytest.raises(RedisError):
        await kept.call("PING")
    await kept.aclose()
