"""A master and its replica that three Sentinels watch, all on loopback: the embedded server's program."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from redis.exceptions import RedisError

from engine.lanes.clients import command, redis_client
from engine.supervision.child import Command, Process
from tests.support.own_redis import OwnRedis, in_step, own_redis, valkey
from tests.support.ports import held_port
from tests.support.waiting import wait_until

NAME, DOWN_MS = "main", 700
"""The master's name, and after which silence a Sentinel believes that it is down."""


@dataclass(frozen=True, slots=True)
class WatchedPair:
    """``first`` is the master at the beginning. ``ports``: the Sentinels'."""

    first: OwnRedis
    second: OwnRedis
    ports: tuple[int, ...]
    password: str
    """The Sentinels', or empty."""

    @property
    def url(self) -> str:
        """What HONGBAO_REDIS_URL says."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://{hosts}/{NAME}" + (f"?sentinel_password={self.password}" if self.password else "")

    async def ask_sentinel(self, *words: str, port: int | None = None) -> object:
        """One command, to the first Sentinel unless another is named."""
        user = f":{self.password}@" if self.password else ""
        url = f"redis://{user}127.0.0.1:{port or self.ports[0]}"
        async with redis_client(url, connections_max=1, timeout_s=5.0) as client:
            return await command(client, "SENTINEL", *words)

    async def fail_over(self) -> None:
        """Order it: the master goes on living, as a replica. Sentinels refuse for a while after one."""
        await self.ask_sentinel("FAILOVER", NAME)

    async def master_port(self) -> int:
        """Where the first Sentinel believes that the master is."""
        found = await self.ask_sentinel("GET-MASTER-ADDR-BY-NAME", NAME)
        assert isinstance(found, list)
        return int(found[1])


@asynccontextmanager
async def watched_pair(folder: Path, *, sentinels: int = 3, password: str = "") -> AsyncIterator[WatchedPair]:
    """All run and know each other at the beginning."""
    with ExitStack() as stack:
        # A master waits five seconds for more replicas unless it is told not to.
        first = stack.enter_context(own_redis(valkey(), folder / "first", repl_diskless_sync_delay="0"))
        await first.start()
        options = {"replicaof": f"127.0.0.1 {first.port}"}
        second = stack.enter_context(own_redis(valkey(), folder / "second", **options))
        await second.start()
        await in_step(first)
        ports = tuple(stack.enter_context(held_port()) for _ in range(sentinels))
        for port in ports:
            process = _sentinel(folder / f"sentinel-{port}", port, first.port, sentinels // 2 + 1, password)
            stack.callback(process.kill)
        pair = WatchedPair(first, second, ports, password)
        await asyncio.gather(*(_knows_all(pair, port, sentinels - 1) for port in ports))
        yield pair


def _sentinel(folder: Path, port: int, master_port: int, quorum: int, password: str) -> Process:
    folder.mkdir()
    path = folder / "sentinel.conf"
    lines = [
        f"port {port}",
        "bind 127.0.0.1",
        f'dir "{folder}"',
        f"sentinel monitor {NAME} 127.0.0.1 {master_port} {quorum}",
        f"sentinel down-after-milliseconds {NAME} {DOWN_MS}",
        f"sentinel failover-timeout {NAME} 4000",
        *([f"requirepass {password}"] if password else []),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    argv = (str(valkey()), str(path), "--sentinel")
    return Process(Command(argv=argv, cwd=folder, log_path=folder / "sentinel.log"))


async def _knows_all(pair: WatchedPair, port: int, others: int) -> None:
    async def does() -> bool:
        try:
            told = await pair.ask_sentinel("MASTER", NAME, port=port)
        except (RedisError, OSError):
            return False
        assert isinstance(told, list)
        found = dict(zip(told[::2], told[1::2], strict=True))
        return (found[b"num-slaves"], found[b"num-other-sentinels"]) == (b"1", str(others).encode())

    await wait_until(does, timeout_s=60, what="the Sentinels knowing each other")
