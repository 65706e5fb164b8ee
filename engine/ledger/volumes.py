"""The ledger's volumes, as in bookkeeping: once one is full, new packets are entered in the next.

A claim's entry goes into indexes. One of them is by wallet, so each entry of a rush goes to another place in it. If it
is larger than Postgres's memory, each claim reads a page of it, and writes it back. Every volume has its own indexes.
So a claim costs what the size of the last volume makes it cost, however old the ledger is.
"""

from typing import NamedTuple

import asyncpg
import structlog

from engine.ledger.database import Connection
from engine.queries import load

LOG = structlog.get_logger()
SQL = load("volumes")


class Filled(NamedTuple):
    """The last volume, and how many entries the whole ledger has got since it began.

    ``fitting``: with how many the next begins if the settings do not say it.
    """

    volume: int
    entries: int
    fitting: int


async def last(connection: Connection) -> int:
    """The volume for new packets. Raises asyncpg's errors."""
    volume: int = await connection.fetchval(SQL["last"])
    return volume


async def filled(connection: Connection) -> Filled:
    """How full the last volume is. Raises asyncpg's errors."""
    (row,) = await connection.fetch(SQL["filled"])
    return Filled(row["volume"], row["entries"], row["fitting"])


async def begin_next(pool: asyncpg.Pool, entries_max: int | None) -> bool:
    """Begin the next volume if the last has ``entries_max`` entries. Returns whether it did. Raises asyncpg's errors.

    None: as many as Postgres can keep in its memory. It needs the table for a moment when nobody changes its parts. If
    there is none within a second, it gives up.
    """
    volume = await pool.fetchval(SQL["begin_next"], entries_max)
    if volume is not None:
        LOG.info("volume_begun", volume=volume)
    return volume is not None
