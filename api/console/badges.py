"""What waits, as numbers beside the navigation: read at most every second or so, however many pages are asked for."""

import asyncio
from collections.abc import Mapping
from time import monotonic

from engine.backoffice.overview import waiting
from engine.lanes.reader import LaneReader
from engine.ledger.database import Pool

FRESH_S = 1.0


class Badges:
    """One process's numbers."""

    def __init__(self, looks: Pool, store: LaneReader) -> None:
        self._looks, self._store = looks, store
        self._read_at_s = float("-inf")
        self._found: Mapping[str, int] = {}
        self._turn = asyncio.Lock()

    async def now(self) -> Mapping[str, int]:
        """How much waits, by the path of its page. What does not wait is 0. Raises UnavailableError."""
        async with self._turn:
            if monotonic() - self._read_at_s > FRESH_S:
                found = await waiting(self._looks, self._store)
                self._found = {
                    "/quarantine": found.quarantine.rows,
                    "/disputes": found.disputes.due_soon,
                    "/alerts": found.alerts,
                    "/refunds": found.refunds.waiting,
                }
                self._read_at_s = monotonic()
        return self._found
