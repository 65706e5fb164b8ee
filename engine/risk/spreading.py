"""Bringing every lane up to date with one of the ledger's lists of changes."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import structlog

from engine.errors import UnavailableError
from engine.lanes.store import Store
from engine.ledger.failures import DATABASE_ERRORS
from engine.observability.repeats import repeats

LOG = structlog.get_logger()
Follow = Callable[[asyncpg.Pool, Store, int, int], Awaitable[None]]
"""Brings one lane to a change or a later one. May raise UnavailableError, asyncpg's errors."""


async def spread(what: str, pool: asyncpg.Pool, store: Store, newest_query: str, follow: Follow) -> bool:
    """Bring all lanes to the last change at the same time. Returns whether all are there.

    What fails is logged as ``<what>_not_spread``.
    """
    try:
        newest = await pool.fetchval(newest_query)
    except DATABASE_ERRORS as error:
        _not_spread(what, None, error)
        return False

    async def is_told(lane: int) -> bool:
        try:
            await follow(pool, store, lane, newest)
        except (UnavailableError, *DATABASE_ERRORS) as error:
            _not_spread(what, lane, error)
            return False
        return True

    return all(await asyncio.gather(*map(is_told, store.epochs)))


def _not_spread(what: str, lane: int | None, error: Exception) -> None:
    """``lane`` None: the ledger did not answer."""
    event = f"{what}_not_spread"
    if times := repeats.times((event, lane), str(error)):
        LOG.warning(event, lane=lane, error=str(error), times=times)
