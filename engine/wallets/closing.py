"""Checks whether a day in China is closed: the ledger has all of it, so its statements no longer change.

A claim has Redis's time and is booked later. So a day is over once all servers' clocks say so. It is closed once three
things hold: every lane's checkpoint has passed its end, no transaction from before its end is open, and none of its
changes waits in quarantine (an operator may still book those).
"""

import asyncio
from datetime import date, timedelta

import asyncpg

from engine.calendar.china_time import begin_ms
from engine.errors import DayNotClosedError
from engine.lanes.reader import LaneReader
from engine.lanes.stream import EventStream
from engine.ledger.database import ledger_errors
from engine.ledger.money import now_ms
from engine.queries import load

SQL, LANES = load("closing"), load("lanes")
_MARGIN_MS = 1_000
"""The longest time between reading the clock and being visible as an open transaction."""
_TRANSACTION_MS_MAX = 3_600_000
"""None of our transactions is open for longer."""
_LOOK_S, _LOOKS_MAX = 0.05, 20
_LEDGER_S, _OPERATOR_S = 5, 60
"""When to ask again: if the ledger is behind, and if an operator must act."""


class Closing:
    """Reads both servers and writes nothing."""

    def __init__(self, pool: asyncpg.Pool, store: LaneReader, stream: EventStream) -> None:
        self._pool, self._store, self._stream = pool, store, stream

    async def check(self, day: date) -> None:
        """Raise DayNotClosedError unless the day and all days before it are closed, and UnavailableError.

        After this, the ledger has everything of these days.
        """
        ends_ms = begin_ms(day + timedelta(days=1))
        if (left_ms := ends_ms + _MARGIN_MS - await self._store.earliest_ms()) > 0:
            raise _not_over(day, left_ms)
        with ledger_errors():
            await self._await_transactions(day, ends_ms)
            for row in await self._pool.fetch(LANES["all"]):
                if (reason := await self._why_lane_is_open(row, ends_ms)) is not None:
                    raise DayNotClosedError(f"{day} is not closed: {reason}.", _LEDGER_S)
            aside = await self._pool.fetchval(SQL["aside"], ends_ms)
        if aside is not None:
            raise DayNotClosedError(f"{day} is not closed: change {aside} waits in quarantine.", _OPERATOR_S)

    async def _await_transactions(self, day: date, ends_ms: int) -> None:
        """Wait, for a moment, until the transactions that were open at the day's end have ended."""
        at_ms = await now_ms(self._pool)
        if (left_ms := ends_ms + _MARGIN_MS - at_ms) > 0:
            raise _not_over(day, left_ms)
        if at_ms > ends_ms + _TRANSACTION_MS_MAX:
            return
        last = await self._pool.fetchval(SQL["transaction"])
        for _ in range(_LOOKS_MAX):
            if await self._pool.fetchval(SQL["oldest"]) > last:
                return
            await asyncio.sleep(_LOOK_S)
        raise DayNotClosedError(f"{day} is not closed: a transaction of the ledger is open.", _LEDGER_S)

    async def _why_lane_is_open(self, row: asyncpg.Record, ends_ms: int) -> str | None:
        lane, position = row["lane"], row["position"]
        status = await self._store.lane_status(lane)
        if status is None or status.epoch != row["epoch"] or not status.is_verified or status.position < position:
            return f"lane {lane} is not compared with the ledger"
        if status.position == position:
            return None
        look = await self._stream.look(lane, position)
        if look.is_broken:
            return f"an entry of lane {lane} cannot be applied"
        if look.oldest is not None:
            is_of_later = look.oldest.event.at_ms >= ends_ms
        else:  # the persister was faster than this check
            is_of_later = await self._pool.fetchval(LANES["checkpoint"], lane) >= status.position
        return None if is_of_later else f"lane {lane} has changes that are not in the ledger"


def _not_over(day: date, left_ms: int) -> DayNotClosedError:
    return DayNotClosedError(f"{day} is not over.", -(-left_ms // 1_000))
