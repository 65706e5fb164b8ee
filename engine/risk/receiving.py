"""The limit on what a person receives per day.

No lane knows what the others give. So this follows the claims in the ledger and notes each user that has reached the
limit, until the day ends in China. claim.lua refuses these users until then. The claim that reaches or passes the limit
stands. So do claims that are decided before every lane knows, at most a second after the ledger's commit.
"""

import asyncio

import asyncpg
import structlog

from engine.ledger.database import Connection, ledger_errors
from engine.loops import every
from engine.queries import load
from engine.risk.limits import day_ms
from engine.risk.limits_reached import LimitsReached
from engine.settings import Settings

LOG = structlog.get_logger()
SQL = load("receiving")
_LOOK_S = 0.1
_PAGE = 10_000
_HOUR_MS = 3_600_000


class Receiving:
    """How far one process has followed the ledger's claims. It starts again with each process and each day."""

    def __init__(self, pool: asyncpg.Pool, reached: LimitsReached, settings: Settings) -> None:
        self._pool, self._reached, self._settings = pool, reached, settings
        self._day_ms = (0, 0)
        self._first = 0  # no ledger entry of the day is before it
        self._after = 0  # all entries up to it were judged, and no more will come
        self._ahead: tuple[int, int] | None = (
            None  # (an entry, the transactions that must end before it is left behind)
        )

    async def look(self) -> None:
        """Judge the users of the entries since the last look. Raises UnavailableError."""
        with ledger_errors():
            if not (self._settings.person_day_received_fen_max or await self._pool.fetchval(SQL["is_limited"])):
                self._day_ms = (0, 0)
                return
            now = await self.begin()
            await self._judge_all(now["transfer_id"])
            await self._leave_behind(now)

    async def _judge_all(self, last: int) -> None:
        """Judge page by page up to an entry. The lanes learn of one page while the next is judged.

        Entries that are booked meanwhile are left to the next look. Otherwise, in a rush, a look would never end.
        """
        after, telling = self._after, None
        try:
            while after < last and (page := await self._page(after)) is not None:
                after, wallets = page
                if await self._judge(wallets):
                    if telling is not None:
                        await telling
                    telling = asyncio.create_task(self._reached.spread())
        finally:
            if telling is not None:
                await telling

    async def look_at(self, connection: Connection, wallet_id: int) -> None:
        """Judge one wallet whose limit was changed, in the caller's transaction. It must lock no wallet after this.

        Call ``begin`` before the transaction, and ``LimitsReached.spread`` after its commit. Raises asyncpg's errors.
        """
        await self._judge_in(connection, [wallet_id])

    async def begin(self) -> asyncpg.Record:
        """Begin a day if a new one has begun. Returns the ledger's state. Raises asyncpg's errors."""
        (now,) = await self._pool.fetch(SQL["horizon"])
        if not self._day_ms[0] <= now["at_ms"] < self._day_ms[1]:
            self._day_ms, self._ahead = day_ms(now["at_ms"]), None
            # The ledger may be behind: it books claims from before midnight after midnight.
            self._first = await self._first_since(self._day_ms[0] - _HOUR_MS, now["transfer_id"])
            self._after = self._first - 1
        return now

    async def _page(self, after: int) -> tuple[int, list[int]] | None:
        """The last of a page of entries, and the wallets that got shares by them. None if there are none."""
        (row,) = await self._pool.fetch(SQL["claimants"], after, _PAGE)
        return None if row["last"] is None else (row["last"], row["wallets"] or [])

    async def _leave_behind(self, now: asyncpg.Record) -> None:
        """Leave behind the entries that need no second look.

        Transactions may end in another order than their entries are numbered. So there may be gaps that are filled
        later. An entry is left behind only once all transactions that were open when it was seen have ended, and the
        entries up to it were judged after that.
        """
        if self._ahead is not None and now["oldest"] > self._ahead[1]:
            self._after, self._ahead = self._ahead[0], None
        if self._ahead is None and now["transfer_id"] > self._after:
            self._ahead = (now["transfer_id"], await self._pool.fetchval(SQL["transaction"]))

    async def _first_since(self, at_ms: int, last: int) -> int:
        """The first entry since a moment, by bisection: numbers and times rise together."""
        low, high = 1, last + 1
        while low < high:
            middle = (low + high) // 2
            row = await self._pool.fetchrow(SQL["at_or_after"], middle)
            if row is None or row["at_ms"] >= at_ms:
                high = middle
            else:
                low = row["transfer_id"] + 1
        return low

    async def _judge(self, wallets: list[int]) -> int:
        """Note whose limit is reached, or no longer is. Returns how many users changed."""
        if not wallets:
            return 0
        async with self._pool.acquire() as connection, connection.transaction():
            changed = await self._judge_in(connection, wallets)
        if changed:
            LOG.info("limits_reached", users=changed)
        return changed

    async def _judge_in(self, connection: Connection, wallets: list[int]) -> int:
        """The same inside the caller's transaction, which must lock no wallet after this."""
        default_fen = self._settings.person_day_received_fen_max
        await connection.execute(SQL["take_turns"])
        done = await connection.execute(SQL["judge"], wallets, default_fen, self._first, *self._day_ms)
        return int(done.rpartition(" ")[2])


async def follow_received(pool: asyncpg.Pool, reached: LimitsReached, settings: Settings, stop: asyncio.Event) -> None:
    """Enforce the limit until ``stop`` is set."""
    receiving = Receiving(pool, reached, settings)

    async def once() -> bool:
        await receiving.look()
        await reached.spread()  # for a Redis that was set back or did not answer
        return False

    await every("receiving", _LOOK_S, stop, once)
