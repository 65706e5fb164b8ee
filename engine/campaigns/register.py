"""Campaigns as a process knows them: what never changes is read once, and what may change once a second."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import asyncpg

from engine.campaigns.terms import Who
from engine.errors import UnknownCampaignError
from engine.ledger.database import ledger_errors
from engine.queries import load
from engine.records import SplitKind

SQL = load("campaigns")
FRESH_S = 1.0
"""How long a process believes that a campaign is not paused or ended, and how old its counts may be."""
KNOWN_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Prize:
    """A part of a wave's pool. ``number`` counts from 1. ``asset`` None: money. Amounts are 10^-scale of it.

    ``is_coupon``: its shares are coupons of a batch.
    """

    number: int
    asset: str | None
    scale: int
    split: SplitKind
    total_fen: int
    count: int
    is_coupon: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """A wave, its prizes and its buckets, which are packets. ``number`` counts from 1.

    ``counts``: how many shares each bucket was paid for. ``prize_of``: bucket -> its prize.
    """

    number: int
    starts_at_ms: int
    ends_at_ms: int
    prizes: tuple[Prize, ...]
    buckets: tuple[str, ...]
    counts: tuple[int, ...]
    prize_of: Mapping[str, Prize]


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What never changes of a campaign, but the ends of its waves, which may be moved on."""

    campaign_id: str
    owner: str
    name: str
    odds_millionths: int
    seed: bytes
    commitment: bytes
    created_at_ms: int
    who: Who
    wave_wins_max: int
    wins_max: int | None
    interval_ms: int
    guests: frozenset[str]
    label: str | None
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

    def buckets_before(self, wave: Wave) -> list[str]:
        """The buckets of all earlier waves."""
        return [packet_id for earlier in self.waves[: wave.number - 1] for packet_id in earlier.buckets]

    def ending(self, ends_ms: Sequence[int]) -> "Campaign":
        """The same with other ends of its waves."""
        if ends_ms == [wave.ends_at_ms for wave in self.waves]:
            return self
        waves = [replace(wave, ends_at_ms=end_ms) for wave, end_ms in zip(self.waves, ends_ms, strict=True)]
        return replace(self, waves=tuple(waves))


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

    def fresh(self, campaign_id: str) -> Known | None:
        """The same without a wait; None if it must be read first."""
        known = self._known.get(campaign_id)
        return known if known is not None and known.is_fresh() else None

    async def _refresh(self, known: Known) -> None:
        with ledger_errors():
            async with self._pool.acquire() as connection:
                asked_s = time.monotonic()  # now, because the wait for a connection would set the clock forward
                (row,) = await connection.fetch(SQL["changes"], int(known.campaign.campaign_id))
        if asked_s < known.at_s:  # a later question was answered first
            return
        known.is_paused, known.ended_at_ms, known.now_ms = row["is_paused"], row["ended_at_ms"], row["now_ms"]
        known.campaign = known.campaign.ending(row["ends_ms"])
        known.at_s = asked_s

    async def _read(self, campaign_id: str) -> Campaign:
        number = int(campaign_id)
        with ledger_errors():
            row = await self._pool.fetchrow(SQL["campaign"], number)
            if row is None:
                raise UnknownCampaignError("No campaign has this number.")
            waves = await self._pool.fetch(SQL["waves"], number)
            prizes = await self._pool.fetch(SQL["prizes"], number)
            buckets = await self._pool.fetch(SQL["buckets"], number)
        of_row = {
            **row,
            "campaign_id": campaign_id,
            "who": Who(row["who"]),
            "guests": frozenset(row["guests"]),
        }
        return Campaign(**of_row, waves=tuple(_wave(wave, prizes, buckets) for wave in waves))


def _wave(row: asyncpg.Record, prizes: Sequence[asyncpg.Record], buckets: Sequence[asyncpg.Record]) -> Wave:
    """A wave, out of all prizes and buckets of its campaign."""
    own = {
        prize["prize"]: Prize(
            number=prize["prize"],
            asset=prize["asset"],
            scale=prize["scale"],
            split=SplitKind(prize["split"]),
            total_fen=prize["total_fen"],
            count=prize["count"],
            is_coupon=prize["is_coupon"],
        )
        for prize in prizes
        if prize["wave"] == row["wave"]
    }
    found = [bucket for bucket in buckets if bucket["wave"] == row["wave"]]
    return Wave(
        number=row["wave"],
        starts_at_ms=row["starts_at_ms"],
        ends_at_ms=row["ends_at_ms"],
        prizes=tuple(own.values()),
        buckets=tuple(str(bucket["packet_id"]) for bucket in found),
        counts=tuple(bucket["count"] for bucket in found),
        prize_of={str(bucket["packet_id"]): own[bucket["prize"]] for bucket in found},
    )
