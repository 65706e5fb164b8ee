"""Both servers for reading: this writes nothing and begins no lane."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import structlog

from engine.errors import OperatorError
from engine.lanes.clients import why_silent
from engine.lanes.reader import LaneReader
from engine.lanes.stream import EventStream
from engine.lanes.topology import Topology, reading, serving
from engine.ledger import schema
from engine.ledger.database import database_pool
from engine.ledger.failures import DATABASE_ERRORS, sentence_of
from engine.queries import load
from engine.redis_servers import why_unheld
from engine.settings import Settings

LANES = load("lanes")
LOG = structlog.get_logger()


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

        Raises OperatorError if a server does not answer (one of several Redis servers may be away) or the database has
        another schema.
        """
        urls = urls_of(settings)
        pool = await database_pool(
            urls.database, connections_max=settings.database_pool_max, timeout_s=settings.database_timeout_s
        )
        topology: Topology | None = None
        try:
            await schema.check_in(pool)
            topology = await _topology(pool, urls.redis, settings, serves=serves)
            await _check_servers(topology)
            store, stream = LaneReader(topology), EventStream(topology)
            yield cls(settings=settings, topology=topology, pool=pool, store=store, stream=stream)
        finally:
            if topology is not None:
                await topology.aclose()
            await pool.close()


async def _topology(pool: asyncpg.Pool, url: str, settings: Settings, *, serves: bool) -> Topology:
    # The ledger may have more lanes than the setting: these are followed, too.
    try:
        lanes = max([settings.lanes, *[row["lane"] + 1 for row in await pool.fetch(LANES["all"])]])
    except DATABASE_ERRORS as error:
        raise OperatorError(sentence_of(error)) from None
    if (why := why_unheld(url, range(lanes))) is not None:
        raise OperatorError(f"{why}, which is in the ledger.")
    if not serves:
        return reading(url, lanes=range(lanes), timeout_s=settings.redis_timeout_s)
    calls_max = settings.calls_in_flight_max
    return serving(url, lanes=lanes, calls_per_lane_max=calls_max, timeout_s=settings.redis_timeout_s)


async def _check_servers(topology: Topology) -> None:
    """Raise OperatorError if a server refuses, or if none answers. One of several may be away: its lanes wait."""
    found = await asyncio.gather(*(why_silent(node.client) for node in topology.nodes))
    away = [(node, why) for node, why in zip(topology.nodes, found, strict=True) if why is not None]
    if len(away) == len(topology.nodes):
        raise OperatorError(away[0][1])
    for node, why in away:
        LOG.warning("redis_away", server=node.place, error=why)
