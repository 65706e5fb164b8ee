"""Rains in the storm: campaigns of two short waves, one after another, and hands that tap in them."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtest.chaos.asking import Client

OWNER = "chaos-mall"
_DEPOSIT_FEN = 10_000_000
_TRIES_MAX = 200
_AGAIN_S = 0.2
_BEGINS_AFTER_S = 7.0
"""A campaign begins 5 s after it is made at the earliest, and the request may be repeated a few times."""
_WAVE_S, _BETWEEN_S = 2, 1
_RECENT = 3
_HANDS = 4
_PAUSE_S_MAX = 0.2
_BATCH_MAX = 40


@dataclass(slots=True)
class Rains:
    """``seed`` decides what they do. ``users``: who taps. ``goes_on``: until when. ``pauses``: as for all guests."""

    client: Client
    seed: int
    users: Sequence[str]
    goes_on: Callable[[], bool]
    pauses: float = 1.0
    campaigns: deque[tuple[str, int]] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _numbers: int = 0

    async def run(self) -> None:
        """Make one campaign after another, and tap, until the last answer."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._owner(random.Random(f"{self.seed} rains")))
            for number in range(_HANDS):
                group.create_task(self._hand(random.Random(f"{self.seed} tap {number}")))

    async def _owner(self, chance: random.Random) -> None:
        while self.goes_on():
            self._numbers += 1
            if await self._deposit(f"rain-{self._numbers}"):
                await self._make(f"rain-{self._numbers}", _terms(chance))
            await asyncio.sleep(self.pauses * chance.uniform(0, _PAUSE_S_MAX) + 1)

    async def _deposit(self, key: str) -> bool:
        for _ in range(_TRIES_MAX):
            if (await self.client.deposit(OWNER, key, _DEPOSIT_FEN)).status == 201:
                return True
            if not self.goes_on():
                break
            await asyncio.sleep(_AGAIN_S)
        return False

    async def _make(self, key: str, terms: dict[str, Any]) -> None:
        """Ask until it is made, or it is too late for its first wave."""
        for _ in range(_TRIES_MAX):
            made = await self.client.make_campaign(OWNER, key, terms)
            if made.status == 201:
                self.campaigns.append((made.number, terms["waves"][0]["starts_at_ms"]))
            if made.status in (201, 422) or not self.goes_on():
                return
            await asyncio.sleep(_AGAIN_S)

    def _pick(self, chance: random.Random) -> str:
        """Mostly one whose waves have come."""
        now_ms, lasts_ms = time.time() * 1000, (2 * _WAVE_S + _BETWEEN_S) * 1000
        going_on = [name for name, begins_ms in self.campaigns if 0 <= now_ms - begins_ms < lasts_ms]
        names = going_on if going_on and chance.random() < 0.9 else [name for name, _ in self.campaigns]
        return chance.choice(names)

    async def _hand(self, chance: random.Random) -> None:
        while self.goes_on():
            if self.campaigns:
                campaign_id = self._pick(chance)
                if chance.random() < 0.7:
                    taps = [await self.client.grab(campaign_id, chance.choice(self.users))]
                else:
                    users = chance.choices(self.users, k=chance.randint(2, _BATCH_MAX))
                    taps = await self.client.grab_many(campaign_id, users)
                if taps and taps[0].status in (0, 503):
                    await asyncio.sleep(_AGAIN_S)
            await asyncio.sleep(self.pauses * chance.uniform(0, _PAUSE_S_MAX))


def _terms(chance: random.Random) -> dict[str, Any]:
    """Two waves, of few shares or many, for whoever taps, with odds or without."""
    begins_ms = int((time.time() + _BEGINS_AFTER_S) * 1000)
    waves = []
    for number in range(2):
        count = chance.choice((5, 40, 90))
        prize = {"total_fen": count * chance.randint(1, 400), "count": count, "split": "lucky"}
        starts_at_ms = begins_ms + number * (_WAVE_S + _BETWEEN_S) * 1000
        waves.append({"starts_at_ms": starts_at_ms, "seconds": _WAVE_S, "prizes": [prize]})
    return {"name": "红包雨", "waves": waves, "odds_millionths": chance.choice((1_000_000, 700_000))}
