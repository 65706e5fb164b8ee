"""What moved in each of China's days, by kind of entry: counted after the fact, so that no claim has to.

The sweeper goes along the entries' numbers, up to one below which nothing can come any more. Whoever asks for a day
adds the few entries after that.
"""

import asyncio
from dataclasses import dataclass
from datetime import date

import asyncpg

from engine.auditing import kept
from engine.ledger.database import ledger_change, ledger_errors
from engine.loops import every
from engine.queries import load

SQL = load("day_movements")
INTERVAL_S = 2.0
STEP_MAX = 200_000
"""How many entries one transaction counts."""
TAIL_MAX = 100_000
"""How many entries that are not counted yet are added to a day's sums."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """The entries of one kind in a day. ``asset`` None: of the ledger's currency."""

    asset: str | None
    kind: str
    count: int
    fen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DayMovements:
    """A day's entries. ``is_whole``: all are in the sums; False while a large ledger is counted for the first time."""

    day: date
    movements: list[Movement]
    is_whole: bool

    def of(self, kind: str, asset: str | None = None) -> Movement:
        """One kind's sum."""
        for movement in self.movements:
            if (movement.kind, movement.asset) == (kind, asset):
                return movement
        return Movement(asset=asset, kind=kind, count=0, fen=0)


async def of_day(pool: asyncpg.Pool, day: date) -> DayMovements:
    """A day's sums. Raises UnavailableError."""
    with ledger_errors():
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            rows = await connection.fetch(SQL["of_day"], day, TAIL_MAX)
            tail = await connection.fetchval(SQL["tail_length"], TAIL_MAX + 1)
    movements = [
        Movement(asset=row["asset"] or None, kind=row["kind"], count=row["count"], fen=int(row["fen"])) for row in rows
    ]
    return DayMovements(day=day, movements=movements, is_whole=tail <= TAIL_MAX)


async def count_on(pool: asyncpg.Pool, *, step_max: int = STEP_MAX) -> bool:
    """Count the next entries. Returns whether there are more. Several processes may do it: each entry is counted once.

    Raises UnavailableError.
    """
    with ledger_errors():
        if await pool.fetchval(SQL["counted"]) >= await pool.fetchval(kept.SQL["last_transfer"]):
            return False
        cut_id = await kept.cut_id(pool)
    if cut_id is None:
        return False
    async with ledger_change(pool) as connection:
        counted = await connection.fetchval(SQL["lock"])
        up_to = min(cut_id, counted + step_max)
        if up_to > counted:
            await connection.execute(SQL["count"], counted, up_to)
            await connection.execute(SQL["move_on"], up_to)
    return bool(up_to < cut_id)


async def follow_movements(pool: asyncpg.Pool, stop: asyncio.Event) -> None:
    """Count what moves until ``stop`` is set."""

    async def once() -> bool:
        return await count_on(pool)

    await every("movements", INTERVAL_S, stop, once)
