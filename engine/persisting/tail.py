"""The end of a lane's stream that the ledger has, and that Redis keeps until standbys of Postgres have it, too.

If a standby takes the primary's place without its last commits, the ledger is behind what it was. The persister then
reads these changes from the stream once more. Without this they would be nowhere, and the lane in doubt.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import asyncpg

from engine.queries import load

SQL = load("tail")
Discard = Callable[[], Awaitable[None]]
"""Removes from Redis what the ledger had at some moment."""
_KEPT_MAX = 1_000
"""How many are remembered one by one while no standby follows: there may be twenty per second, for hours."""


class _Kept(NamedTuple):
    """``lsn``: the end of Postgres's log when the ledger had this."""

    lsn: int
    discard: Discard


class Tail:
    """One lane's, on one connection to Postgres. ``standbys``: how many must have a commit on their disks."""

    def __init__(self, connection: asyncpg.Connection, standbys: int) -> None:
        self._connection, self._standbys = connection, standbys
        self._kept: deque[_Kept] = deque()

    async def add(self, discard: Discard, everything: Discard) -> None:
        """What was committed on this connection may be discarded once the standbys have it. ``trim`` does so.

        ``everything``: the same, with all that was committed before. It takes longer.
        """
        lsn = await self._connection.fetchval(SQL["written"])
        if len(self._kept) < _KEPT_MAX:
            self._kept.append(_Kept(lsn, discard))
        else:
            self._kept[-1] = _Kept(lsn, everything)

    async def trim(self) -> None:
        """Discard what enough standbys have. Fewer standbys than wanted, or one whose state is hidden, have nothing."""
        if not self._kept:
            return
        flushed = await self._connection.fetchval(SQL["flushed"], self._standbys)
        while flushed is not None and self._kept and self._kept[0].lsn <= flushed:
            await self._kept[0].discard()
            self._kept.popleft()
