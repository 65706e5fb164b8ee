"""The clients: what their libraries do not say as they should."""

import asyncio

import pytest
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError

from engine.lanes.clients import command, redis_client

LOOP_FACTORY = uvloop.new_event_loop


async def test_a_connection_that_was_closed_a_moment_ago_is_a_lost_connection(redis_url: str) -> None:
    """As when a server's reset arrives between two commands, before anybody has read it."""
    async with redis_client(redis_url, connections_max=1, timeout_s=5.0) as client:
        connection = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        await connection.connect()
        connection._writer.transport.abort()
        with pytest.raises(RedisConnectionError, match="The connection was closed"):
            await connection.send_command("PING")
        assert not connection.is_connected
        await connection.send_command("PING")
        assert await connection.read_response() == b"PONG"
        await connection.disconnect()


async def test_a_connection_that_another_task_closes_before_a_write_is_a_lost_connection(redis_url: str) -> None:
    """As when every connection to a replaced server is closed while one of them is being made."""
    async with redis_client(redis_url, connections_max=1, timeout_s=5.0) as client:
        connection = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        await connection.connect()
        writing = asyncio.create_task(connection.send_command("PING"))
        await asyncio.sleep(0)  # it has seen that the connection is there, and has not written yet
        await connection.disconnect(nowait=True)
        with pytest.raises(RedisConnectionError, match="The connection was closed"):
            await writing
        await connection.send_command("PING")
        assert await connection.read_response() == b"PONG"
        await connection.disconnect()


async def test_a_client_asks_again_over_a_new_connection(redis_url: str) -> None:
    async with redis_client(redis_url, connections_max=1, timeout_s=5.0) as client:
        first = await command(client, "CLIENT", "ID")
        (connection,) = client.connection_pool._get_free_connections()
        assert connection._writer is not None
        connection._writer.transport.abort()
        assert await command(client, "CLIENT", "ID") > first
