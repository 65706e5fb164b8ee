"""Both servers for reading: this writes nothing and begins no lane."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
from redis.asyncio import Redis

from engine.errors import OperatorError
from engine.lanes.clients import check_redis, redis_client
from engine.lanes.reader import LaneReader
from engine.lanes.stream import EventStream
from engine.ledger import schema
from engine.ledger.database import database_pool
from engine.settings import Settings

_REDIS_CONNECTIONS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Urls:
    """The URLs of the two servers."""

    redis: str
    database: str


def urls_of(settings: Settings) -> Urls:
    """Both servers' URLs. Raises OperatorError if one is not set."""
    if settings.redis_url is None or settings.database_url is None:
        raise OperatorError("HONGBAO_REDIS_URL and HONGBAO_DATABASE_URL are not set, and no `hongbao up` is running.")
    return Urls(redis=settings.redis_url, database=settings.database_url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """Open with ``async with Connected.open(settings) as connected``. ``store`` reads."""

    settings: Settings
    redis: Redis
    pool: asyncpg.Pool
    store: LaneReader
    stream: EventStream

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator["Connected"]:
        """Connect, and close everything at the end.

        Raises OperatorError if a server does not answer or the database has another schema.
        """
        urls = urls_of(settings)
        await schema.check(urls.database)
        pool = await database_pool(
            urls.database, connections_max=settings.database_pool_max, timeout_s=settings.database_timeout_s
        )
        redis = redis_client(urls.redis, connections_max=_REDIS_CONNECTIONS, timeout_s=settings.redis_timeout_s)
        try:
            await check_redis(redis)
            yield cls(settings=settings, redis=redis, pool=pool, store=LaneReader(redis), stream=EventStream(redis))
        finally:
            await redis.aclose()
            await pool.close()
