"""What a scene has left in the ledger and in Redis, made once for many tests, each of which gets a copy of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import uuid4

from redis.asyncio import Redis

from engine.lanes.clients import command, redis_client
from engine.settings import Settings
from tests.support.administrator import Administrator

_LASTS = 0
"""How RESTORE says that a key has no end."""


@dataclass(frozen=True, slots=True)
class Left:
    """A database that nobody is connected to any more, and of each key of Redis its value and its end (Unix ms)."""

    settings: Settings
    keys: tuple[tuple[bytes, bytes, int], ...]

    @classmethod
    async def by(cls, settings: Settings) -> "Left":
        """What there is on the servers of a scene, whose engine must be closed."""
        async with _redis(settings) as client:
            keys = []
            for name in sorted([name async for name in client.scan_iter()]):
                value, ends_at_ms = await client.dump(name), await client.pexpiretime(name)
                assert value is not None
                keys.append((name, value, max(_LASTS, ends_at_ms)))
        return cls(settings, tuple(keys))

    @asynccontextmanager
    async def copied(self, administrator: Administrator) -> AsyncIterator[Settings]:
        """The same in a database of its own, and on the same Redis, which is emptied before."""
        async with copied(str(self.settings.database_url), administrator) as url:
            async with _redis(self.settings) as client:
                await command(client, "FLUSHALL")
                async with client.pipeline(transaction=False) as pipeline:
                    for key, value, ends_at_ms in self.keys:
                        pipeline.restore(key, ends_at_ms, value, absttl=True)
                    await pipeline.execute()
            yield self.settings.model_copy(update={"database_url": url})


@asynccontextmanager
async def copied(url: str, administrator: Administrator) -> AsyncIterator[str]:
    """A copy, dropped afterwards, of a database that nobody is connected to."""
    template, name = urlsplit(url).path.removeprefix("/"), f"test_{uuid4().hex}"
    await administrator.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    yield url.replace(f"/{template}?", f"/{name}?")
    await administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")


@asynccontextmanager
async def _redis(settings: Settings) -> AsyncIterator[Redis]:
    async with redis_client(str(settings.redis_url), connections_max=1, timeout_s=5.0) as client:
        yield client
