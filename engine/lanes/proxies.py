"""Notices a proxy that hides which server answers: two of its answers come from two servers.

The gate rests on asking once per connection for the server's run id. Behind such a proxy, that would prove nothing.
"""

import asyncio

from redis.asyncio import Connection
from redis.exceptions import RedisError

from engine.errors import OperatorError
from engine.lanes.connections import run_id_in
from engine.lanes.topology import Node, Topology

_CONNECTIONS, _QUESTIONS = 2, 2
_AGAIN_S = 0.5
"""A server may be restarted or replaced between two questions, but hardly twice in a row."""
_ROUNDS = 3


async def refuse(topology: Topology) -> None:
    """Raise OperatorError if a node's address leads to several servers by turns. One that is away is not judged."""
    await asyncio.gather(*map(_refuse_proxy, topology.nodes))


async def _refuse_proxy(node: Node) -> None:
    for number in range(_ROUNDS):
        if number:
            await asyncio.sleep(_AGAIN_S)
        found = await _run_ids(node)
        if len(found) <= 1:
            return
    raise OperatorError(
        f"{node.name} is a proxy: its answers come from {len(found)} servers by turns. Let HONGBAO_REDIS_URL name the "
        "servers themselves, or their cluster or Sentinels (docs/operations.md)."
    )


async def _run_ids(node: Node) -> set[str]:
    """The servers that answer on new connections, and on each of them one question after another."""
    found = set[str]()
    pool = node.client.connection_pool
    for _ in range(_CONNECTIONS):
        connection: Connection = pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            for _ in range(_QUESTIONS):
                await connection.send_command("INFO", "server")
                found.add(run_id_in(await connection.read_response()))
        except (RedisError, OSError):
            return set()
        finally:
            await connection.disconnect(nowait=True)
    return found
