"""Both servers for reading: this writes nothing and begins no lane."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from engine.errors import OperatorError
from engine.lanes.clients import check_redis
from engine.lanes.reader import LaneReader
from engine.lanes.stream import EventStream
from engine.lanes.topology import Topology, reading, serving
from engine.ledger import schema
from engine.ledger.database import database_pool
from engine.queries import load
from engine.settings import Settings

LANES = load("lanes")


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
    topology: Topology
    pool: asyncpg.Pool
    store: LaneReader
    stream: EventStream

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, *, serves: bool = False) -> AsyncIterator["Connected"]:
        """Connect, and close everything at the end. ``serves``: with what a process needs that does more than reading.

        Raises OperatorError if a server does not answer or the database has another schema.
        """
        urls = urls_of(settings)
        await schema.check(urls.database)
        pool = await database_pool(
            urls.database, connections_max=settings.database_pool_max, timeout_s=settings.database_timeout_s
        )
        topology: Topology | None = None
        try:
            topology = await _topology(pool, urls.redis, settings, serves=serves)
            for node in topology.nodes:
                await check_redis(node.client)
            store, stream = LaneReader(topology), EventStream(topology)
            yield cls(settings=settings, topology=topology, pool=pool, store=store, stream=stream)
        finally:
            if topology is not None:
                await topology.aclose()
            await pool.close()


async def _topology(pool: asyncpg.Pool, url: str, settings: Settings, *, serves: bool) -> Topology:
    if not serves:
        return reading(url, timeout_s=settings.redis_timeout_s)
    # The ledger may have more lanes than the setting: these are followed, too.
    lanes = max([settings.lanes, *[row["lane"] + 1 for row in await pool.fetch(LANES["all"])]])
    calls_max = settings.calls_in_flight_max
    return serving(url, lanes=lanes, calls_per_lane_max=calls_max, timeout_s=settings.redis_timeout_s)
