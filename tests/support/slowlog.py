"""The server's own time of script calls, which a busy client or a slow socket does not touch."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from engine.lanes.clients import command

_ENTRIES_MAX = 20_000


@asynccontextmanager
async def script_calls_ms(client: Redis) -> AsyncIterator[list[float]]:
    """Collects, at the end of the block, how long the server worked on each script call within it."""
    calls_ms: list[float] = []
    usual = await client.config_get("slowlog-*")
    await command(client, "CONFIG", "SET", "slowlog-log-slower-than", 0)
    await command(client, "CONFIG", "SET", "slowlog-max-len", _ENTRIES_MAX)
    await command(client, "SLOWLOG", "RESET")
    try:
        yield calls_ms
        entries = await client.slowlog_get(_ENTRIES_MAX)
        calls_ms += [entry["duration"] / 1000 for entry in entries if entry["command"].startswith(b"EVAL")]
    finally:
        for name, value in usual.items():
            await command(client, "CONFIG", "SET", str(name), str(value))
        await command(client, "SLOWLOG", "RESET")
