"""Grabbing in a campaign: which bucket a user's tap goes to, and what the tap is answered."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from engine.campaigns import draws
from engine.campaigns.ended import Ended
from engine.campaigns.register import Campaign, Known, Register, Wave
from engine.claiming.claims import Claims
from engine.errors import BusyError, HongbaoError, NotArrivedError
from engine.records import Outcome


class GrabOutcome(StrEnum):
    """What a tap is answered. Only CLAIMED and ALREADY_CLAIMED have an amount."""

    CLAIMED = "claimed"
    ALREADY_CLAIMED = "already_claimed"
    MISSED = "missed"  # the odds are against this user in this wave
    SOLD_OUT = "sold_out"
    NOT_STARTED = "not_started"
    BETWEEN_WAVES = "between_waves"
    PAUSED = "paused"
    OVER = "over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grab:
    """One tap's answer. ``wave``: the one it is about, None if there is none.

    ``starts_at_ms``: when the next wave starts, while one is waited for. ``now_ms``: the server's clock.
    """

    outcome: GrabOutcome
    amount_fen: int
    campaign_id: str
    user_id: str
    wave: int | None
    starts_at_ms: int | None
    now_ms: int


class Grabbing:
    """Use cases of those who tap. Every method raises UnavailableError if a server that it needs does not answer."""

    def __init__(self, register: Register, claims: Claims, ended: Ended) -> None:
        self._register, self._claims, self.ended = register, claims, ended

    async def grab(self, campaign_id: str, user_id: str) -> Grab:
        """Tap once. Whoever has won in a wave hears of it again, also after its end until the next wave.

        Raises UnknownCampaignError, FrozenError, LimitReachedError, and as ``Claims.claim`` does.
        """
        known = await self._register.known(campaign_id)
        now_ms, campaign = known.clock_ms(), known.campaign
        wave = campaign.wave_at(now_ms)
        if known.is_paused or known.ended_at_ms is not None:
            return _waiting(known, user_id, now_ms)
        if wave is not None:
            return await self._tap(known, wave, user_id, now_ms)
        last = campaign.last_wave(now_ms)
        if last is not None and (amount_fen := await self._won(campaign, last, user_id)) is not None:
            return _answer(known, user_id, now_ms, GrabOutcome.ALREADY_CLAIMED, last, amount_fen)
        return _waiting(known, user_id, now_ms)

    async def grab_many(self, grabs: Sequence[tuple[str, str]]) -> list[Grab | HongbaoError]:
        """Tap for many (campaign, user), each answered as ``grab`` would answer or raise, in the same order."""
        answers = await asyncio.gather(*(self.grab(*grab) for grab in grabs), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, HongbaoError):
                raise answer
        return [answer for answer in answers if isinstance(answer, (Grab, HongbaoError))]

    async def _tap(self, known: Known, wave: Wave, user_id: str, now_ms: int) -> Grab:
        campaign = known.campaign
        if not _may_win(campaign, wave, user_id):
            return _answer(known, user_id, now_ms, GrabOutcome.MISSED, wave)
        for packet_id in _order(campaign, wave, self.ended.not_lost(wave.buckets, user_id), user_id):
            try:
                result = await self._claims.claim_bucket(packet_id, user_id)
            except NotArrivedError:  # by the clock of its own server
                return _waiting(known, user_id, min(now_ms, wave.starts_at_ms - 1))
            if result.outcome is Outcome.CLAIMED:
                return _answer(known, user_id, now_ms, GrabOutcome.CLAIMED, wave, result.amount_fen)
            if result.outcome is Outcome.ALREADY:
                return _answer(known, user_id, now_ms, GrabOutcome.ALREADY_CLAIMED, wave, result.amount_fen)
            await self._must_be_booked(packet_id)
        return _answer(known, user_id, now_ms, GrabOutcome.SOLD_OUT, wave)

    async def _won(self, campaign: Campaign, wave: Wave, user_id: str) -> int | None:
        """What a user has won in a wave that is over, or None."""
        if not _may_win(campaign, wave, user_id):
            return None
        maybe = self.ended.not_lost(wave.buckets, user_id)
        for packet_id in maybe:
            await self._must_be_booked(packet_id)
        return await self.ended.share_of(maybe, user_id) if maybe else None

    async def _must_be_booked(self, packet_id: str) -> None:
        if not await self.ended.is_booked(packet_id):
            raise BusyError("The ledger does not have the end of a part of this wave yet: try again in a moment.")


def _may_win(campaign: Campaign, wave: Wave, user_id: str) -> bool:
    return draws.may_win(campaign.seed, campaign.campaign_id, wave.number, user_id, campaign.odds_millionths)


def _order(campaign: Campaign, wave: Wave, packet_ids: Sequence[str], user_id: str) -> list[str]:
    """These of a wave's buckets in the user's order."""
    if not packet_ids:  # as for most, once it is sold out
        return []
    order = draws.order_of(campaign.seed, campaign.campaign_id, wave.number, user_id, len(wave.buckets))
    return [wave.buckets[bucket] for bucket in order if wave.buckets[bucket] in packet_ids]


def _waiting(known: Known, user_id: str, now_ms: int) -> Grab:
    """The answer while no wave gives anything."""
    campaign = known.campaign
    upcoming = campaign.next_wave(now_ms)
    if known.ended_at_ms is not None or now_ms >= campaign.waves[-1].ends_at_ms:
        return _answer(known, user_id, now_ms, GrabOutcome.OVER)
    if known.is_paused:
        return _answer(known, user_id, now_ms, GrabOutcome.PAUSED)
    has_begun = now_ms >= campaign.waves[0].starts_at_ms
    outcome = GrabOutcome.BETWEEN_WAVES if has_begun else GrabOutcome.NOT_STARTED
    return _answer(known, user_id, now_ms, outcome, upcoming)


def _answer(  # noqa: PLR0917 - in the order of the answer
    known: Known, user_id: str, now_ms: int, outcome: GrabOutcome, wave: Wave | None = None, amount_fen: int = 0
) -> Grab:
    return Grab(
        outcome=outcome,
        amount_fen=amount_fen,
        campaign_id=known.campaign.campaign_id,
        user_id=user_id,
        wave=None if wave is None else wave.number,
        starts_at_ms=wave.starts_at_ms if wave is not None and wave.starts_at_ms > now_ms else None,
        now_ms=now_ms,
    )
