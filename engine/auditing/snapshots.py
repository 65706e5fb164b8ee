"""Connections to the ledger that see the same moment, so that several can read at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import asyncpg

from engine.ledger.database import Connection

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two connections: one that copies rows out is busy until its end, and another must read what belongs to them."""

    connection: Connection
    copying: Connection


@dataclass(frozen=True, slots=True)
class Snapshot:
    """At least one pair. Each does one piece of work at a time."""

    pairs: Sequence[Pair]

    @property
    def connection(self) -> Connection:
        """One of the connections, while no pieces of work are done."""
        return self.pairs[0].connection

    @classmethod
    @asynccontextmanager
    async def open(cls, pool: asyncpg.Pool, jobs: int = 1) -> AsyncIterator["Snapshot"]:
        """A snapshot of this moment, with two of the pool's connections per job."""
        async with _reading(pool) as connection, cls.of(pool, connection, jobs) as snapshot:
            yield snapshot

    @classmethod
    @asynccontextmanager
    async def of(cls, pool: asyncpg.Pool, connection: Connection, jobs: int = 1) -> AsyncIterator["Snapshot"]:
        """The snapshot of a connection that is in a repeatable-read transaction."""
        exported = await connection.fetchval("SELECT pg_export_snapshot()")
        async with AsyncExitStack() as stack:
            connections = [connection]
            for _ in range(2 * jobs - 1):
                other = await stack.enter_async_context(_reading(pool))
                await other.execute(f"SET TRANSACTION SNAPSHOT '{exported}'")
                connections.append(other)
            yield cls([Pair(*pair) for pair in zip(connections[::2], connections[1::2], strict=True)])

    async def do(self, pieces: Sequence[Callable[[Pair], Awaitable[Result]]]) -> list[Result]:
        """Do pieces of work, each on a pair that is free. Returns their results in their order.

        The first error ends the others and is raised.
        """
        free: asyncio.Queue[Pair] = asyncio.Queue()
        for pair in self.pairs:
            free.put_nowait(pair)

        async def one(piece: Callable[[Pair], Awaitable[Result]]) -> Result:
            pair = await free.get()
            try:
                return await piece(pair)
            finally:
                free.put_nowait(pair)

        tasks = [asyncio.ensure_future(one(piece)) for piece in pieces]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _reading(pool: asyncpg.Pool) -> AsyncIterator[Connection]:
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        yield connection
