"""A ledger to tamper with, and what its hash chains tell of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from engine.auditing.anchors import Head
from engine.auditing.audit import Finding, chains
from engine.recovery.epochs import SQL
from tests.support.administrator import Administrator
from tests.support.anchored import look
from tests.support.books import Books, claim, exhausted, expired, opening
from tests.support.copies import copied

CLAIM = "kind = 'claim' AND position"
COPIED = "kind, from_account, to_account, amount_fen, at_ms, slot, position"
BATCH = "lane 0, batch of changes"
CHANGED = "it, or a row of these changes, was changed"
UNCHECKED = "SET session_replication_role = replica"  # a superuser's way past the triggers


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A ledger at rest: two packets, six batches in lane 0, one of which set a claim aside."""

    books: Books
    pool: asyncpg.Pool
    full: int
    rest: int

    async def sql(self, *statements: str) -> None:
        """Change the ledger behind its back."""
        await self.books.connection.execute("; ".join((UNCHECKED, *statements)))

    async def find(self, anchor: list[Head] | None = None) -> dict[str, Finding]:
        """What the chains tell."""
        async with (
            self.pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            return {finding.invariant: finding for finding in await chains(self.pool, connection, anchor)}

    async def problems_since(self) -> list[str]:
        """What the chains tell from the last anchor on, and what the anchor itself tells."""
        looked = await look(self.pool)
        named = ("chains_unbroken", "transfers_unbroken", "anchor_holds")
        return [problem for found in looked.findings if found.invariant in named for problem in found.problems]

    async def problems(self, anchor: list[Head] | None = None) -> list[str]:
        """All of it in one list."""
        return [problem for finding in (await self.find(anchor)).values() for problem in finding.problems]


@asynccontextmanager
async def pool_on(url: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(url, min_size=2, max_size=2) as pool:
        yield pool


@asynccontextmanager
async def scene_on(books: Books, database_url: str, *, anchored: bool = False) -> AsyncIterator[Scene]:
    """The scene, on empty books. ``anchored``: an audit has kept an anchor after the first batch."""
    full, rest = await books.packet(total_fen=100, count=4), await books.packet(total_fen=70, count=3)
    await books.apply(opening(full), opening(rest))  # changes 1 to 2
    if anchored:
        async with pool_on(database_url) as pool:
            await look(pool, keeps=True)
    await books.apply(*(claim(full, f"user{slot}", slot, 20 + slot) for slot in range(3)), claim(rest, "bob", 0, 30))
    await books.apply(claim(rest, "carol", 1, 10), claim(rest, "bob", 2, 30), claim(rest, "dave", 2, 5))  # 7 to 9
    await books.apply(claim(full, "user3", 3, 37), exhausted(full))  # 10
    await books.apply(expired(rest, 0, 25))  # 11
    await books.apply(claim(rest, "late", 2, 25))  # 12, set aside as well
    async with pool_on(database_url) as pool:
        yield Scene(books=books, pool=pool, full=full, rest=rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A scene in a database that nobody is connected to any more. ``position``: its last change."""

    database_url: str
    full: int
    rest: int
    position: int

    @classmethod
    async def on(cls, database_url: str, *, anchored: bool = False) -> "Made":
        """The scene, in a migrated database. Its books are sound, so those of each copy are before a test's change."""
        connection = await asyncpg.connect(database_url)
        try:
            await connection.execute(SQL["add_lanes"], ["epoch-0", "epoch-1"])
            async with scene_on(Books(connection=connection), database_url, anchored=anchored) as scene:
                assert await (scene.problems_since() if anchored else scene.problems()) == []
                return cls(database_url=database_url, full=scene.full, rest=scene.rest, position=scene.books.position)
        finally:
            await connection.close()

    @asynccontextmanager
    async def copied(self, administrator: Administrator) -> AsyncIterator[Scene]:
        """The same scene in a database of its own."""
        async with copied(self.database_url, administrator) as url, pool_on(url) as pool:
            connection = await asyncpg.connect(url)
            try:
                books = Books(connection=connection, position=self.position)
                yield Scene(books=books, pool=pool, full=self.full, rest=self.rest)
            finally:
                await connection.close()
