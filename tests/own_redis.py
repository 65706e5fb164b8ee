"""A Redis of a test's own on a port of its own: set as the test wants it, killed, stopped, started again."""

import asyncio
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from engine.clients import command, redis_client
from engine.embedded_redis import binary
from tests.conftest import free_port
from tests.waiting import wait_until


class OwnRedis:
    """One server; its data stays in its folder from one start to the next."""

    def __init__(self, program: Path, folder: Path, options: dict[str, str]) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        settings = {
            "dir": str(folder),
            "bind": "127.0.0.1",
            "port": str(self.port),
            "appendonly": "yes",
            "save": "",
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        self._config = folder / "redis.conf"
        self._config.write_text(
            "".join(f"{name} {value}\n" if value else f'{name} ""\n' for name, value in settings.items())
        )
        self._argv = [str(program), str(self._config)]

    async def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = await asyncio.to_thread(
            subprocess.Popen, self._argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await wait_until(self._answers, timeout_s=10, what="the server's answering")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, also of one that is stopped."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Redis]:
        """A client of it."""
        async with redis_client(self.url, connections_max=2, timeout_s=5.0) as client:
            yield client

    async def ask(self, *words: str | int) -> Any:  # noqa: ANN401  # whatever the command replies
        """Send one command."""
        async with self.client() as client:
            return await command(client, *words)

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(1.0):
                return bool(await self.ask("PING"))
        except (RedisError, OSError):
            return False


@contextmanager
def own_redis(program: Path, folder: Path, **options: str) -> Iterator[OwnRedis]:
    """A server that is not started yet, killed at the end of the block. ``options``: its settings, ``_`` for ``-``."""
    folder.mkdir()
    server = OwnRedis(program, folder, options)
    try:
        yield server
    finally:
        server.kill()


def valkey() -> Path:
    """A server that has WAITAOF."""
    return binary()


def redis_without_waitaof() -> Path:
    """The machine's own server, which may be older; the test is skipped without one."""
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("there is no redis-server on PATH")
    return Path(found)


async def skip_if_it_has_waitaof(server: OwnRedis) -> None:
    """Skip the test on a server that is not as old as it must be."""
    async with server.client() as client:
        try:
            await command(client, "WAITAOF", 0, 0, 1)
        except ResponseError as error:
            if "unknown command" in str(error):
                return
    pytest.skip("the machine's redis-server has WAITAOF")
