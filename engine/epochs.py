"""Each lane's epoch: the word on which Redis and the ledger must agree before a lane may give anything.

A lane's Redis side is written once, when the lane is first used. If it is gone later, or says another epoch, Redis has
lost the lane or belongs to another ledger: the scripts refuse (FENCED) until the lane is rebuilt.
"""

import secrets

import asyncpg

from engine.queries import load
from engine.store import Store

SQL = load("lanes")


async def read(pool: asyncpg.Pool) -> dict[int, str]:
    """Every lane the ledger knows and its epoch."""
    return {row["lane"]: row["epoch"] for row in await pool.fetch(SQL["all"])}


async def begin(pool: asyncpg.Pool, store: Store, lanes: int) -> dict[int, str]:
    """Make sure that lanes 0 to ``lanes`` - 1 exist in the ledger, and in Redis if they were never used before."""
    await pool.execute(SQL["add_lanes"], list(range(lanes)), [secrets.token_hex(16) for _ in range(lanes)])
    for row in await pool.fetch(SQL["all"]):
        if not row["begun"]:
            await _begin_lane(pool, store, row["lane"])
    return await read(pool)


async def _begin_lane(pool: asyncpg.Pool, store: Store, lane: int) -> None:
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(SQL["lock"], lane)
        if row is not None and not row["begun"]:
            await store.begin_lane(lane, row["epoch"])
            await connection.execute(SQL["mark_begun"], lane)


async def fenced(pool: asyncpg.Pool, store: Store) -> list[str]:
    """One sentence for each lane whose Redis side is missing, of another epoch, or older than the ledger."""
    sentences = []
    for row in await pool.fetch(SQL["all"]):
        lane, status = row["lane"], await store.lane_status(row["lane"])
        if status is None:
            sentences.append(f"Lane {lane} is fenced: Redis has lost it.")
        elif status.epoch != row["epoch"]:
            sentences.append(f"Lane {lane} is fenced: Redis and the ledger disagree about its epoch.")
        elif status.position < row["position"]:
            sentences.append(f"Lane {lane} is behind the ledger in Redis: it was set back.")
    return sentences
