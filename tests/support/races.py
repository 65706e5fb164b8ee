"""Races that both sides win often, on whatever machine: the one that won last starts later the next time."""

import asyncio
from collections.abc import Iterator
from random import Random

import pytest

_STEP, _SPREAD = 8, 15
_LONGER_MAX = 10


class Race:
    """Two sides that are started together, again and again."""

    def __init__(self, seed: int, *, rounds_min: int, wins_min: int) -> None:
        self._chance, self._lead = Random(seed), 0
        self._rounds_min, self._wins_min = rounds_min, wins_min
        self.first_won = self.second_won = 0

    def rounds(self) -> Iterator[int]:
        """Run this many rounds at least, and more until each side has won often enough."""
        for number in range(_LONGER_MAX * self._rounds_min):
            if number >= self._rounds_min and min(self.first_won, self.second_won) >= self._wins_min:
                return
            yield number
        pytest.fail(f"one side won {self.first_won} times, the other {self.second_won} times")

    async def wait_first(self) -> None:
        """What the first side does before it begins."""
        await self._turns(-self._lead)

    async def wait_second(self) -> None:
        """What the second side does before it begins."""
        await self._turns(self._lead)

    def won(self, *, by_first: bool) -> None:
        """Who it was. The other side begins a little earlier from now on."""
        self.first_won, self.second_won = self.first_won + by_first, self.second_won + (not by_first)
        self._lead += -_STEP if by_first else _STEP

    async def _turns(self, count: int) -> None:
        for _ in range(max(0, count) + self._chance.randrange(_SPREAD)):
            await asyncio.sleep(0)
