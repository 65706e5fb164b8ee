"""The ledger's volumes, as in bookkeeping: once one is full, new packets are entered in the next.

A claim's entry goes into indexes. One of them is by wallet, so each entry of a rush goes to another place in it. If it
is larger than Postgres's memory, each claim reads a page of it, and writes it back. Every volume has its own indexes.
So a claim costs what the size of the last volume makes it cost, however old the ledger is.

A volume whose packets have all settled is closed: it gets no entry any more. So a list that shows the newest entries
first looks into the open volumes, and into closed ones only until it has enough.
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple

import asyncpg
import structlog

from engine.ids import FIRST_VOLUME, NUMBER_LENGTH
from engine.ledger.database import Connection
from engine.queries import load

LOG = structlog.get_logger()
SQL = load("volumes")
_READ_S = 10.0
_FEW = 4
"""How many closed volumes are looked into at first. Each question takes longer than a volume."""
_ANALYZE_S_MAX = 3_600.0
_ACCOUNTS_END = 2**63 - 1
_PER_VOLUME = 10 ** (NUMBER_LENGTH - 2)


class Filled(NamedTuple):
    """The last volume, and how many entries the whole ledger has got since it began.

    ``fitting``: with how many the next begins if the settings do not say it.
    """

    volume: int
    entries: int
    fitting: int


class Payers(NamedTuple):
    """The paying accounts of some volumes: from ``first`` up to, and without, ``end``.

    Those from ``gap`` up to, and without, ``gap_end`` are not among them.
    """

    first: int
    end: int
    gap: int = 0
    gap_end: int = 0


class _Closed(NamedTuple):
    volume: int
    first_transfer_id: int
    last_transfer_id: int


class Volumes:
    """What a process knows of the volumes. It may be late: a closed volume that it takes for open is looked into."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._read_at_s: float | None = None
        self._open = Payers(0, _ACCOUNTS_END)
        self._closed: tuple[_Closed, ...] = ()

    async def newest(
        self, below: int, limit: int, fetch: Callable[[Payers], Awaitable[Sequence[asyncpg.Record]]]
    ) -> list[asyncpg.Record]:
        """The newest ``limit`` entries with numbers below ``below``, newest first. Raises asyncpg's errors.

        ``fetch`` returns those of some payers, newest first, with their ``transfer_id``. The open volumes are looked
        into at one moment: else an entry could be missing below one that was booked after it.
        """
        if self._read_at_s is None or time.monotonic() > self._read_at_s + _READ_S:
            await self._read()
        found: list[asyncpg.Record] = []
        closed = [volume for volume in self._closed if volume.first_transfer_id < below]
        for payers, later in self._parts(closed):
            found += await fetch(payers)
            found.sort(key=_number, reverse=True)
            del found[limit:]
            if len(found) == limit and all(_number(found[-1]) > volume.last_transfer_id for volume in later):
                break
        return found

    def _parts(self, closed: Sequence[_Closed]) -> Iterator[tuple[Payers, Sequence[_Closed]]]:
        """Payers to look for, and the closed volumes that come later: a few, then twice as many, and so on."""
        yield self._open, closed
        begin, few = 0, _FEW
        while part := closed[begin : begin + few]:
            begin, few = begin + few, few * 2
            yield Payers(part[-1].volume * _PER_VOLUME, (part[0].volume + 1) * _PER_VOLUME), closed[begin:]

    async def _read(self) -> None:
        rows = await self._pool.fetch(SQL["all"])
        lowest_open = min(
            (row["volume"] for row in rows if row["last_transfer_id"] is None and row["volume"] > FIRST_VOLUME),
            default=FIRST_VOLUME,
        )
        self._closed = tuple(
            _Closed(row["volume"], row["first_transfer_id"], row["last_transfer_id"])
            for row in rows
            if FIRST_VOLUME < row["volume"] < lowest_open
        )
        gap = ((FIRST_VOLUME + 1) * _PER_VOLUME, lowest_open * _PER_VOLUME) if self._closed else (0, 0)
        self._open = Payers(0, _ACCOUNTS_END, *gap)
        self._read_at_s = time.monotonic()


def _number(row: asyncpg.Record) -> int:
    number: int = row["transfer_id"]
    return number


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


async def close(pool: asyncpg.Pool) -> int:
    """Close the volumes whose packets have all settled. Returns how many. Raises asyncpg's errors."""
    closed: int = await pool.fetchval(SQL["close"])
    if closed:
        LOG.info("volumes_closed", count=closed)
    return closed


async def analyze(pool: asyncpg.Pool) -> bool:
    """Have Postgres look at the entries of all volumes together, if there are enough new ones. Returns whether it did.

    With many volumes it may take minutes. Raises asyncpg's errors.
    """
    looked: bool = await pool.fetchval(SQL["analyze"], timeout=_ANALYZE_S_MAX)
    return looked
