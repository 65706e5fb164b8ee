"""Redis servers of a test's own, which it may kill, stop and start again on their data: Valkey, or Redis from PATH."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from engine.embedded import redis
from engine.lanes.clients import command, redis_client
from engine.lanes.durability import connected_replicas
from engine.supervision.child import Command, Process
from tests.support.needs import needs_program
from tests.support.ports import held_port
from tests.support.waiting import wait_until


@dataclass(slots=True)
class OwnRedis:
    """One server on a port of loopback, with an append-only file; ``options`` add to that or replace it."""

    program: Path
    folder: Path
    port: int
    options: dict[str, str] = field(default_factory=dict)
    process: Process | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> Redis:
        """A client of it, to be closed."""
        return redis_client(self.url, connections_max=4, timeout_s=5.0)

    async def start(self) -> None:
        """Start it on the data it left, and wait until it answers."""
        self.folder.mkdir(exist_ok=True)
        settings = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "appendonly": "yes", **self.options}
        words = [word for name, value in settings.items() for word in (f"--{name}", *value.split(" "))]
        words += ["--dir", str(self.folder)]  # in which spaces may be
        log_path = self.folder / "redis.log"
        self.process = Process(Command(argv=(str(self.program), *words), cwd=self.folder, log_path=log_path))

        async def answers() -> bool:
            try:
                async with self.client() as client:
                    return bool(await command(client, "PING"))
            except (RedisError, OSError):
                return False

        await wait_until(answers, timeout_s=10, what="the server answering")

    async def ask(self, *words: str | int) -> object:
        """One command."""
        async with self.client() as client:
            return await command(client, *words)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.signal(number)

    def kill(self) -> None:
        """SIGKILL; its data stays."""
        if self.process is not None:
            self.process.kill()
            self.process = None


def valkey() -> Path:
    """The embedded server's program, which has WAITAOF."""
    return redis.binary()


def redis_without_waitaof() -> Path:
    """redis-server from PATH, which may be older than WAITAOF; the test is skipped if there is none."""
    return needs_program("redis-server")


@contextmanager
def own_redis(program: Path, folder: Path, **options: str) -> Iterator[OwnRedis]:
    """A server that is gone after the block; options have ``_`` in place of ``-``."""
    with held_port() as port:  # also while it is not running, so that it comes back to where it was
        server = OwnRedis(program, folder, port, {name.replace("_", "-"): value for name, value in options.items()})
        try:
            yield server
        finally:
            server.kill()


async def in_step(server: OwnRedis) -> None:
    """Wait until the server's one replica has all that the server has."""

    async def has_replica() -> bool:
        async with server.client() as client:
            return await connected_replicas(client) == 1

    await wait_until(has_replica, timeout_s=10, what="the replica being in step")


async def skip_if_it_has_waitaof(server: OwnRedis) -> None:
    """Skip the test on a server that is not the kind it is about."""
    try:
        await server.ask("WAITAOF", 0, 0, 1)
    except ResponseError:
        return
    pytest.skip("the redis-server on PATH has WAITAOF")
