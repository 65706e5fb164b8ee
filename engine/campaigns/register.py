"""Campaigns as a process knows them: what never changes is read once, and what may change once a second."""

import asyncio
import math
import time
from collections import OrderedDict
from dataclasses import dataclass, field

import asyncpg

from engine.errors import UnknownCampaignError
from engine.ledger.database import ledger_errors
from engine.queries import load
from engine.records import SplitKind

SQL = load("campaigns")
FRESH_S = 1.0
"""How long a process believes that a campaign is not paused or ended, and how old its counts may be."""
KNOWN_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """A wave and its buckets, which are packets. ``number`` counts from 1."""

    number: int
    starts_at_ms: int
    ends_at_ms: int
    total_fen: int
    count: int
    buckets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What never changes of a campaign."""

    campaign_id: str
    owner: str
    name: str
    asset: str | None
    scale: int
    split: SplitKind
    odds_millionths: int
    seed: bytes
    commitment: bytes
    created_at_ms: int
    waves: tuple[Wave, ...]

    def wave_at(self, now_ms: int) -> Wave | None:
        """The wave that is going on."""
        return next((wave for wave in self.waves if wave.starts_at_ms <= now_ms < wave.ends_at_ms), None)

    def next_wave(self, now_ms: int) -> Wave | None:
        """The first wave that is still to come."""
        return next((wave for wave in self.waves if wave.starts_at_ms > now_ms), None)

    def last_wave(self, now_ms: int) -> Wave | None:
        """The last wave that has ended."""
        return next((wave for wave in reversed(self.waves) if wave.ends_at_ms <= now_ms), None)


@dataclass(slots=True)
class Known:
    """A campaign as a process knows it. ``at_s``: when it asked what may change, by its own clock.

    ``doubted_s``: what was asked before is not believed any more. ``at_s`` stays, because the clock goes by it.
    """

    campaign: Campaign
    is_paused: bool = False
    ended_at_ms: int | None = None
    now_ms: int = 0
    at_s: float = -math.inf
    doubted_s: float = -math.inf
    refreshing: "asyncio.Task[None] | None" = field(default=None, repr=False)

    def clock_ms(self) -> int:
        """The database's clock, as it must be now."""
        return self.now_ms + int((time.monotonic() - self.at_s) * 1000)

    def is_fresh(self) -> bool:
        """Whether what may change is known well enough."""
        return self.doubted_s <= self.at_s and time.monotonic() - self.at_s < FRESH_S

    def doubt(self) -> None:
        """Read what may change again before it is used. A question on its way may be from before the change."""
        self.doubted_s, self.refreshing = time.monotonic(), None


class Register:
    """One process's memory of campaigns."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._known: OrderedDict[str, Known] = OrderedDict()

    async def known(self, campaign_id: str) -> Known:
        """A campaign, with what may change of it as it was at most FRESH_S ago. Raises UnknownCampaignError."""
        known = self._known.get(campaign_id)
        if known is None:
            # Several may have asked for it at once. All go on with one, so that who doubts it doubts it for all.
            read = Known(await self._read(campaign_id))
            known = self._known.setdefault(campaign_id, read)
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)
        if not known.is_fresh():
            if known.refreshing is None or known.refreshing.done():
                known.refreshing = asyncio.create_task(self._refresh(known))
            await asyncio.shield(known.refreshing)
        return known

    async def _refresh(self, known: Known) -> None:
        with ledger_errors():
            async with self._pool.acquire() as connection:
                asked_s = time.monotonic()  # now, because the wait for a connection would set the clock forward
                (row,) = await connection.fetch(SQL["changes"], int(known.campaign.campaign_id))
        if asked_s < known.at_s:  # a later question was answered first
            return
        known.is_paused, known.ended_at_ms, known.now_ms = row["is_paused"], row["ended_at_ms"], row["now_ms"]
        known.at_s = asked_s

    async def _read(self, campaign_id: str) -> Campaign:
        number = int(campaign_id)
        with ledger_errors():
            row = await self._pool.fetchrow(SQL["campaign"], number)
            if row is None:
                raise UnknownCampaignError("No campaign has this number.")
            waves = await self._pool.fetch(SQL["waves"], number)
            buckets = await self._pool.fetch(SQL["buckets"], number)
        return Campaign(
            campaign_id=campaign_id,
            owner=row["owner"],
            name=row["name"],
            asset=row["asset"],
            scale=row["scale"],
            split=SplitKind(row["split"]),
            odds_millionths=row["odds_millionths"],
            seed=row["seed"],
            commitment=row["commitment"],
            created_at_ms=row["created_at_ms"],
            waves=tuple(
                Wave(
                    number=wave["wave"],
                    starts_at_ms=wave["starts_at_ms"],
                    ends_at_ms=wave["ends_at_ms"],
                    total_fen=wave["total_fen"],
                    count=wave["count"],
                    buckets=tuple(str(found["packet_id"]) for found in buckets if found["wave"] == wave["wave"]),
                )
                for wave in waves
            ),
        )
