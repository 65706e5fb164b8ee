"""What a person may receive in a day.

A lane does not know what the others give: so this follows what the ledger has booked, and notes each user who has
reached the limit, until the day ends in China. claim.lua refuses them until then. The claim that reaches the limit, or
passes it, stands; so do those that are decided before every lane knows, a second after the ledger's commit at most.
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
    """Where one process is in the ledger's claims. Nothing of it is kept: it begins anew with the day."""

    def __init__(self, pool: asyncpg.Pool, reached: LimitsReached, settings: Settings) -> None:
        self._pool, self._reached, self._settings = pool, reached, settings
        self._day_ms = (0, 0)
        self._first = 0  # no transfer of the day is before it
        self._after = 0  # all up to it have been looked at, and none will come any more
        self._ahead: tuple[int, int] | None = None  # (up to where, once no transaction up to this is open)

    async def look(self) -> None:
        """Look at what was booked since the last time. Raises UnavailableError."""
        with ledger_errors():
            if not (self._settings.person_day_received_fen_max or await self._pool.fetchval(SQL["is_limited"])):
                self._day_ms = (0, 0)
                return
            now = await self.begin()
            await self._judge_all()
            await self._leave_behind(now)

    async def _judge_all(self) -> None:
        """Judge whoever claimed since, page by page; the lanes are told of one while the next is judged."""
        after, telling = self._after, None
        try:
            while (page := await self._page(after)) is not None:
                after, wallets = page
                if await self._judge(wallets):
                    if telling is not None:
                        await telling
                    telling = asyncio.create_task(self._reached.spread())
        finally:
            if telling is not None:
                await telling

    async def look_at(self, connection: Connection, wallet_id: int) -> None:
        """Look at one wallet, whose limit was changed, in the caller's transaction, which locks no wallet after it.

        Call ``begin`` before the transaction, and ``LimitsReached.spread`` after its commit. Raises asyncpg's errors.
        """
        await self._judge_in(connection, [wallet_id])

    async def begin(self) -> asyncpg.Record:
        """Begin a day, if it is another than before; returns what can be seen. Raises asyncpg's errors."""
        (now,) = await self._pool.fetch(SQL["horizon"])
        if not self._day_ms[0] <= now["at_ms"] < self._day_ms[1]:
            self._day_ms, self._ahead = day_ms(now["at_ms"]), None
            # The ledger may be behind: what was claimed before midnight is booked after it.
            self._first = await self._first_since(self._day_ms[0] - _HOUR_MS, now["transfer_id"])
            self._after = self._first - 1
        return now

    async def _page(self, after: int) -> tuple[int, list[int]] | None:
        """The last of some transfers after one, and the wallets that claimed by them; None when there are none."""
        (row,) = await self._pool.fetch(SQL["claimants"], after, _PAGE)
        return None if row["last"] is None else (row["last"], row["wallets"] or [])

    async def _leave_behind(self, now: asyncpg.Record) -> None:
        """Do not look again at what is whole.

        Transactions end in another order than they take their transfers' numbers: what can be seen may have gaps that
        are filled later. So numbers are left behind once all transactions that were open then have ended, and the whole
        was looked at after that.
        """
        if self._ahead is not None and now["oldest"] > self._ahead[1]:
            self._after, self._ahead = self._ahead[0], None
        if self._ahead is None and now["transfer_id"] > self._after:
            self._ahead = (now["transfer_id"], await self._pool.fetchval(SQL["transaction"]))

    async def _first_since(self, at_ms: int, last: int) -> int:
        """The first transfer since a moment, by halving: numbers and times rise together."""
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
        """Note whose limit is reached, or is not any more; returns how many changed."""
        if not wallets:
            return 0
        async with self._pool.acquire() as connection, connection.transaction():
            changed = await self._judge_in(connection, wallets)
        if changed:
            LOG.info("limits_reached", users=changed)
        return changed

    async def _judge_in(self, connection: Connection, wallets: list[int]) -> int:
        """Do so inside the caller's transaction, which locks no wallet after it; returns how many changed."""
        default_fen = self._settings.person_day_received_fen_max
        await connection.execute(SQL["take_turns"])
        done = await connection.execute(SQL["judge"], wallets, default_fen, self._first, *self._day_ms)
        return int(done.rpartition(" ")[2])


async def follow_received(pool: asyncpg.Pool, reached: LimitsReached, settings: Settings, stop: asyncio.Event) -> None:
    """Hold everybody to what they may receive in a day, until ``stop`` is set."""
    receiving = Receiving(pool, reached, settings)

    async def once() -> bool:
        await receiving.look()
        await reached.spread()  # a Redis that was set back, or did not answer
        return False

    await every("receiving", _LOOK_S, stop, once)
