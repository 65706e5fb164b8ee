"""Which packets most of the latest booked claims are about: read from the ledger, so that no claim pays for it.

It shows who wins, not who asks: a late claim that is answered "sold out" leaves no trace in the ledger.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from engine.errors import UnavailableError
from engine.ledger.database import ledger_errors
from engine.queries import load

SQL = load("hottest")
ENTRIES_MAX = 2_000
"""How many of the ledger's latest entries are looked at. It bounds the cost, whatever the rate is."""
RECENT_MS = 10_000
PACKETS_MAX = 10
FRESH_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HotPacket:
    """A packet: how many of the claims that were looked at are on it, and which part of them that is (0 to 1).

    ``count``: its shares. ``claims_per_s``: over the time in which these claims were booked.
    """

    packet_id: str
    label: str | None
    count: int
    claims: int
    part: float
    claims_per_s: float


class Hottest:
    """Looks at most every two seconds, and only if somebody asks."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._looked_at_s = float("-inf")
        self._packets: Sequence[HotPacket] = ()

    async def packets(self) -> Sequence[HotPacket]:
        """The hottest first; none if the ledger does not answer."""
        now_s = time.monotonic()
        if now_s - self._looked_at_s >= FRESH_S:
            self._looked_at_s = now_s  # before the look: whoever comes meanwhile gets the last ones
            try:
                self._packets = await self._look()
            except UnavailableError:
                self._packets = ()
        return self._packets

    async def _look(self) -> Sequence[HotPacket]:
        since_ms = int(time.time() * 1_000) - RECENT_MS
        with ledger_errors():
            rows = await self._pool.fetch(SQL["latest"], ENTRIES_MAX, since_ms, PACKETS_MAX)
        return [
            HotPacket(
                packet_id=str(row["packet_id"]),
                label=row["label"],
                count=row["count"],
                claims=row["claims"],
                part=row["claims"] / row["looked_at"],
                claims_per_s=row["claims"] * 1_000 / max(1_000, row["span_ms"]),
            )
            for row in rows
        ]
