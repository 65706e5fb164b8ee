"""The embedded Redis Cluster for tests: three masters, each with a replica."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from redis.exceptions import RedisError

from engine.embedded import servers
from engine.embedded.redis_cluster import EmbeddedRedisCluster
from engine.embedded.redis_node import RedisNode
from engine.lanes import keys
from engine.lanes.clients import command, redis_client
from tests.support.waiting import wait_until

MASTERS = 3


@dataclass(frozen=True, slots=True)
class Clustered:
    """``masters`` at the beginning, and the replica of each, in the same order."""

    embedded: EmbeddedRedisCluster

    @property
    def url(self) -> str:
        """What HONGBAO_REDIS_URL says."""
        return self.embedded.url

    @property
    def password(self) -> str:
        """That of every server."""
        return self.embedded.layout.password

    @property
    def masters(self) -> tuple[RedisNode, ...]:
        """At the beginning."""
        return self.embedded.node_services[:MASTERS]

    @property
    def replicas(self) -> tuple[RedisNode, ...]:
        """At the beginning."""
        return self.embedded.node_services[MASTERS:]

    def url_of(self, node: RedisNode) -> str:
        """One server's own."""
        return f"redis://:{self.password}@127.0.0.1:{node.port}"

    async def ask(self, node: RedisNode, *words: str | int) -> object:
        """One command to one server; its answer as it is."""
        async with redis_client(self.url_of(node), connections_max=1, timeout_s=5.0) as client:
            return await command(client, *words)

    async def holder_of(self, lane: int) -> RedisNode:
        """The server that holds a lane, by all that answer: they agree, or it is waited for."""

        async def agreed() -> int | None:
            told = {await self._master_port(node, keys.slot(lane)) for node in self.embedded.node_services} - {None}
            return told.pop() if len(told) == 1 else None

        port = await wait_until(agreed, timeout_s=30, what=f"the cluster agreeing who holds lane {lane}")
        return next(node for node in self.embedded.node_services if node.port == port)

    async def moved(self, lane: int, target: RedisNode) -> None:
        """Move a lane's slot as an operator or a rebalancer would, and wait until all know it."""
        slot, source = keys.slot(lane), await self.holder_of(lane)
        source.ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.ask("CLUSTER", "MYID"))

        async def is_there() -> bool:
            return await self.holder_of(lane) is target

        await wait_until(is_there, timeout_s=60, what="the slot being moved")

    async def _master_port(self, node: RedisNode, slot: int) -> int | None:
        if node.process is None:
            return None
        try:
            found = await self.ask(node, "CLUSTER", "SLOTS")
        except (RedisError, OSError):
            return None
        assert isinstance(found, list)
        return next((master[1] for first, last, master, *_ in found if first <= slot <= last), None)


@asynccontextmanager
async def clustered(folder: Path, *, replicas: int = 1) -> AsyncIterator[Clustered]:
    """All run and know each other at the beginning."""
    with servers.hold(folder) as held:
        embedded = EmbeddedRedisCluster(held, nodes=MASTERS, replicas=replicas)
        try:
            await asyncio.to_thread(embedded.start)
            yield Clustered(embedded)
        finally:
            embedded.kill()
    servers.remove(folder)
