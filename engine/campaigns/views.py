"""What everybody may look at of a campaign: its state and counts, an owner's list, and the proof at the end."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import asyncpg

from engine.campaigns.register import FRESH_S, KNOWN_MAX, Known, Prize, Register, Wave
from engine.campaigns.terms import Who
from engine.errors import NotSettledError, UnavailableError
from engine.ids import lane_of
from engine.lanes.reader import LaneReader
from engine.ledger.database import ledger_errors
from engine.packets import proof
from engine.paging import NEWEST, parse
from engine.queries import load
from engine.records import SplitKind
from engine.settings import Settings

SQL = load("campaigns")


class CampaignState(StrEnum):
    """A campaign's state, by the clock."""

    LOADING = "loading"  # its shares are being put into Redis
    ARMED = "armed"  # every share is in Redis, and the first wave has not started
    RUNNING = "running"  # a wave is going on
    BETWEEN_WAVES = "between_waves"
    PAUSED = "paused"  # its owner has stopped it for a while; waves end when they would have ended
    OVER = "over"  # the last wave has ended, or its owner has ended it


@dataclass(frozen=True, slots=True, kw_only=True)
class PrizeView:
    """A part of a wave's pool as everybody sees it. Amounts are 10^-scale of ``asset``.

    ``claimed_count``: at most a second old. ``returned_fen``: what nobody won, once it has settled, otherwise None.
    """

    asset: str
    scale: int
    split: SplitKind
    total_fen: int
    count: int
    claimed_count: int
    returned_fen: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveView:
    """A wave as everybody sees it."""

    wave: int
    starts_at_ms: int
    ends_at_ms: int
    prizes: Sequence[PrizeView]


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignView:
    """A campaign as everybody sees it. ``now_ms``: the server's clock, for countdowns.

    ``count``, ``claimed_count``: shares of all waves and prizes. ``is_settled``: whether the ledger has everything, and
    what nobody won has gone back. ``lanes``: over how many each prize is spread. The bounds are those of its terms.
    """

    campaign_id: str
    owner: str
    name: str
    state: CampaignState
    now_ms: int
    count: int
    claimed_count: int
    is_settled: bool
    lanes: int
    odds_millionths: int
    who: Who
    wave_wins_max: int
    wins_max: int | None
    interval_ms: int
    commitment: str
    waves: Sequence[WaveView]


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignLine:
    """One line of an owner's campaigns."""

    campaign_id: str
    owner: str
    name: str
    created_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignsPage:
    """An owner's campaigns, newest first."""

    campaigns: list[CampaignLine]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveProof:
    """A wave's buckets with their seeds, in order. Their claims are in the proofs of the packets."""

    wave: int
    buckets: list[proof.Proof]


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignProof:
    """What a campaign was committed to before its first wave, once everything has settled (docs/campaigns.md)."""

    campaign_id: str
    odds_millionths: int
    seed: str
    commitment: str
    waves: list[WaveProof]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a process has seen of a campaign, and when. ``is_armed``: every share was in Redis."""

    at_s: float
    view: CampaignView
    is_armed: bool


class CampaignViews:
    """Read-only use cases. Every method raises UnavailableError if a server that it needs does not answer."""

    def __init__(self, pool: asyncpg.Pool, store: LaneReader, settings: Settings, register: Register) -> None:
        self._pool, self._store, self._settings, self._register = pool, store, settings, register
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._looking: dict[str, asyncio.Task[_Seen]] = {}

    async def get(self, campaign_id: str) -> CampaignView:
        """A campaign. Its counts are at most FRESH_S old, or as they were before a server stopped answering.

        Raises UnknownCampaignError, UnavailableError if this process has never seen it whole.
        """
        known, seen = await self._register.known(campaign_id), self._seen.get(campaign_id)
        if seen is None or time.monotonic() - seen.at_s >= FRESH_S:
            # All who ask at once share one look: each asks the servers once per part of the campaign.
            if (looking := self._looking.get(campaign_id)) is None:
                looking = self._looking[campaign_id] = asyncio.create_task(self._look(known))
                looking.add_done_callback(lambda _: self._looking.pop(campaign_id))
            seen = await asyncio.shield(looking)
        now_ms = known.clock_ms()  # the state and the clock are those of the moment
        return replace(seen.view, now_ms=now_ms, state=_state(known, now_ms, is_armed=seen.is_armed))

    async def _look(self, known: Known) -> _Seen:
        """Look again, and remember what was seen."""
        campaign_id, began_s = known.campaign.campaign_id, time.monotonic()
        seen = self._seen.get(campaign_id)
        try:
            found = await self._see(known, began_s, is_armed=seen is not None and seen.is_armed)
        except UnavailableError:
            if seen is None:
                raise
            found = replace(seen, at_s=began_s)
        self._seen[campaign_id] = found
        if len(self._seen) > KNOWN_MAX:
            self._seen.popitem(last=False)
        return found

    async def _see(self, known: Known, at_s: float, *, is_armed: bool) -> _Seen:
        campaign, now_ms = known.campaign, known.clock_ms()
        packet_ids = [packet_id for wave in campaign.waves for packet_id in wave.buckets]
        with ledger_errors():
            rows = await self._pool.fetch(SQL["ends"], list(map(int, packet_ids)))
        ends = {str(row["packet_id"]): row for row in rows}
        if not is_armed:
            is_armed = all([await self._are_loaded(part, ends) for part in self._store.by_server(packet_ids)])
        waves = [
            WaveView(
                wave=wave.number,
                starts_at_ms=wave.starts_at_ms,
                ends_at_ms=wave.ends_at_ms,
                prizes=[await self._prize(wave, prize, ends, now_ms) for prize in wave.prizes],
            )
            for wave in campaign.waves
        ]
        prizes = [prize for wave in waves for prize in wave.prizes]
        view = CampaignView(
            campaign_id=campaign.campaign_id,
            owner=campaign.owner,
            name=campaign.name,
            state=_state(known, now_ms, is_armed=is_armed),
            now_ms=now_ms,
            count=sum(prize.count for prize in prizes),
            claimed_count=sum(prize.claimed_count for prize in prizes),
            is_settled=all(prize.returned_fen is not None for prize in prizes),
            lanes=len({lane_of(packet_id) for packet_id in packet_ids}),
            odds_millionths=campaign.odds_millionths,
            who=campaign.who,
            wave_wins_max=campaign.wave_wins_max,
            wins_max=campaign.wins_max,
            interval_ms=campaign.interval_ms,
            commitment=campaign.commitment.hex(),
            waves=waves,
        )
        return _Seen(at_s, view, is_armed)

    async def _prize(self, wave: Wave, prize: Prize, ends: Mapping[str, asyncpg.Record], now_ms: int) -> PrizeView:
        rows = [ends[packet_id] for packet_id, of in wave.prize_of.items() if of is prize]
        has_begun = wave.starts_at_ms <= now_ms
        is_settled = all(row["settled_at_ms"] is not None for row in rows)
        return PrizeView(
            asset=prize.asset or self._settings.currency,
            scale=prize.scale,
            split=prize.split,
            total_fen=prize.total_fen,
            count=prize.count,
            claimed_count=sum([await self._claimed(row) if has_begun else 0 for row in rows]),
            returned_fen=sum(row["remaining_fen"] for row in rows) if is_settled else None,
        )

    async def _are_loaded(self, packet_ids: Sequence[str], ends: Mapping[str, asyncpg.Record]) -> bool:
        """Whether one server has all shares of these buckets, or had them until their end."""
        states = await self._store.states(packet_ids)
        return all(
            ends[packet_id]["remaining_count"] is not None or state not in (None, "loading")
            for packet_id, state in zip(packet_ids, states, strict=True)
        )

    async def _claimed(self, row: asyncpg.Record) -> int:
        """How many shares of a bucket are given."""
        if row["remaining_count"] is not None:
            return int(row["count"] - row["remaining_count"])
        live = await self._store.counts(str(row["packet_id"]))
        return 0 if live is None else live.count - live.remaining_count

    async def of_owner(self, owner: str, *, after: str | None, limit: int) -> CampaignsPage:
        """An owner's campaigns, newest first. Raises InvalidFieldsError for an invalid cursor."""
        (below,) = parse(after, parts=1, start=(NEWEST,))
        lines = await newest(self._pool, limit + 1, owner=owner, below=below)
        page = lines[:limit]
        return CampaignsPage(campaigns=page, next=page[-1].campaign_id if len(lines) > limit else None)

    async def proof(self, campaign_id: str) -> CampaignProof:
        """What binds the campaign, with its seeds. Raises UnknownCampaignError, and NotSettledError before the end."""
        campaign = (await self._register.known(campaign_id)).campaign
        with ledger_errors():
            rows = await self._pool.fetch(SQL["packets"], int(campaign_id))
        if any(row["settled_at_ms"] is None for row in rows):
            raise NotSettledError("The proof is available once every wave has settled.")
        waves: dict[int, list[proof.Proof]] = {}
        for row in rows:
            waves.setdefault(row["wave"], []).append(proof.from_ledger(str(row["packet_id"]), row, None))
        return CampaignProof(
            campaign_id=campaign_id,
            odds_millionths=campaign.odds_millionths,
            seed=campaign.seed.hex(),
            commitment=campaign.commitment.hex(),
            waves=[WaveProof(wave=wave, buckets=buckets) for wave, buckets in waves.items()],
        )


async def newest(
    pool: asyncpg.Pool, limit: int, *, owner: str | None = None, below: int = NEWEST
) -> list[CampaignLine]:
    """The newest campaigns of an owner (None: of all) with numbers below ``below``. Raises UnavailableError."""
    with ledger_errors():
        rows = await pool.fetch(SQL["of_owner"], owner, below, limit)
    return [CampaignLine(**{**row, "campaign_id": str(row["campaign_id"])}) for row in rows]


def _state(known: Known, now_ms: int, *, is_armed: bool) -> CampaignState:
    campaign = known.campaign
    if known.ended_at_ms is not None or now_ms >= campaign.waves[-1].ends_at_ms:
        return CampaignState.OVER
    if not is_armed:
        return CampaignState.LOADING
    if known.is_paused:
        return CampaignState.PAUSED
    if campaign.wave_at(now_ms) is not None:
        return CampaignState.RUNNING
    if now_ms >= campaign.waves[0].starts_at_ms:
        return CampaignState.BETWEEN_WAVES
    return CampaignState.ARMED
