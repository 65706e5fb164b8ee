"""Races that both sides win often, on whatever machine: the one that won last starts later the next time."""

import asyncio
from random import Random

_STEP, _SPREAD = 8, 15


class Race:
    """Two sides that are started together, again and again."""

    def __init__(self, seed: int) -> None:
        self._chance, self._lead = Random(seed), 0

    async def wait_first(self) -> None:
        """What the first side does before it begins."""
        await self._turns(-self._lead)

    async def wait_second(self) -> None:
        """What the second side does before it begins."""
        await self._turns(self._lead)

    def won(self, *, by_first: bool) -> None:
        """Who it was. The other side begins a little earlier from now on."""
        self._lead += -_STEP if by_first else _STEP

    async def _turns(self, count: int) -> None:
        for _ in range(max(0, count) + self._chance.randrange(_SPREAD)):
            await asyncio.sleep(0)
