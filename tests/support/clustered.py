"""A Redis Cluster of a test's own on loopback: three masters, each with a replica."""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from redis.exceptions import RedisError

from engine.lanes import keys
from tests.support.own_redis import OwnRedis, own_redis, valkey
from tests.support.ports import held_port
from tests.support.waiting import wait_until

NODE_TIMEOUT_MS = 1_000
"""After so long a silence a server is believed to be down."""
_SLOTS = 16_384


@dataclass(frozen=True, slots=True)
class Clustered:
    """``masters`` at the beginning, with the slots in equal parts, and the replica of each, in the same order."""

    masters: tuple[OwnRedis, ...]
    replicas: tuple[OwnRedis, ...]

    @property
    def url(self) -> str:
        """What HONGBAO_REDIS_URL says."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    @property
    def servers(self) -> tuple[OwnRedis, ...]:
        """All of them."""
        return (*self.masters, *self.replicas)

    async def holder_of(self, lane: int, *asked: OwnRedis) -> OwnRedis:
        """The server that holds a lane, by those that are ``asked``: they agree, or it is waited for."""

        async def agreed() -> int | None:
            told = {await _master_port(server, keys.slot(lane)) for server in asked or self.servers}
            return told.pop() if len(told) == 1 else None

        port = await wait_until(agreed, timeout_s=30, what=f"the cluster agreeing who holds lane {lane}")
        return next(server for server in self.servers if server.port == port)


@asynccontextmanager
async def clustered(folder: Path, *, replicas: int = 1, **options: str) -> AsyncIterator[Clustered]:
    """All run and know each other at the beginning. ``options``: theirs, with ``_`` in place of ``-``."""
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        servers: list[OwnRedis] = []
        for number in range(3 + 3 * replicas):
            own = {
                "cluster_enabled": "yes",
                "cluster_node_timeout": str(NODE_TIMEOUT_MS),
                "cluster_port": str(stack.enter_context(held_port())),
                "cluster_require_full_coverage": "no",
                "cluster_replica_validity_factor": "0",
                "repl_diskless_sync_delay": "0",
                **options,
            }
            servers.append(stack.enter_context(own_redis(valkey(), folder / str(number), **own)))
            await servers[-1].start()
        found = Clustered(tuple(servers[:3]), tuple(servers[3:]))
        await _form(found)
        yield found


async def _form(cluster: Clustered) -> None:
    first = cluster.servers[0]
    names = [await _text(server, "CLUSTER", "MYID") for server in cluster.servers]
    for number, server in enumerate(cluster.servers):
        await server.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    for number, server in enumerate(cluster.masters):
        bounds = [_SLOTS * part // 3 for part in (number, number + 1)]
        await server.ask("CLUSTER", "ADDSLOTSRANGE", bounds[0], bounds[1] - 1)
    for server in cluster.servers[1:]:
        await first.ask("CLUSTER", "MEET", "127.0.0.1", server.port, server.options["cluster-port"])

    async def all_know_all() -> bool:
        for server in cluster.servers:
            seen = await _text(server, "CLUSTER", "NODES")
            if not all(name in seen for name in names) or "handshake" in seen:
                return False
        return True

    await wait_until(all_know_all, timeout_s=30, what="the servers knowing each other")
    for server, master in zip(cluster.replicas, names, strict=False):
        await server.ask("CLUSTER", "REPLICATE", master)

    async def is_whole() -> bool:
        for server in cluster.servers:
            if "cluster_state:ok" not in await _text(server, "CLUSTER", "INFO"):
                return False
            if server in cluster.replicas:
                told = await server.ask("INFO", "replication")
                assert isinstance(told, dict)
                if told.get("master_link_status") != "up":
                    return False
        return True

    await wait_until(is_whole, timeout_s=30, what="the cluster being whole")


async def _text(server: OwnRedis, *words: str) -> str:
    said = await server.ask(*words)
    assert isinstance(said, bytes)
    return said.decode()


async def _master_port(server: OwnRedis, slot: int) -> int | None:
    try:
        found = await server.ask("CLUSTER", "SLOTS")
    except (RedisError, OSError):
        return None
    assert isinstance(found, list)
    return next((master[1] for first, last, master, *_ in found if first <= slot <= last), None)
