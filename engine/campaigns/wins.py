"""What a user has won in a campaign so far, without tapping: for a page that was closed and is opened again."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from engine.campaigns.ended import Ended
from engine.campaigns.grabbing import GrabShare, share_in
from engine.campaigns.register import Register, Wave
from engine.claiming.claims import Claims
from engine.errors import HongbaoError
from engine.lanes.reader import LaneReader
from engine.records import ClaimResult, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveWins:
    """A user's shares of one wave."""

    wave: int
    shares: Sequence[GrabShare]


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignWins:
    """A user's shares of a campaign, in the order of its waves; only waves in which they have any."""

    campaign_id: str
    user_id: str
    waves: Sequence[WaveWins]

    def without_codes(self) -> "CampaignWins":
        """The same for others than the user: a coupon's code is its holder's alone."""
        waves = [replace(wave, shares=[_without_code(share) for share in wave.shares]) for wave in self.waves]
        return replace(self, waves=waves)


def _without_code(share: GrabShare) -> GrabShare:
    return share if share.coupon is None else replace(share, coupon=replace(share.coupon, code=None))


class Wins:
    """Read-only use case. It raises UnavailableError if a server that it needs does not answer."""

    def __init__(self, register: Register, claims: Claims, ended: Ended, store: LaneReader, currency: str) -> None:
        self._register, self._claims, self._ended = register, claims, ended
        self._store, self._currency = store, currency

    async def of(self, campaign_id: str, user_id: str) -> CampaignWins:
        """All that a user has won, as soon as it is given. Raises UnknownCampaignError, UnconfirmedError."""
        known = await self._register.known(campaign_id)
        now_ms = known.clock_ms()
        waves = [wave for wave in known.campaign.waves if wave.starts_at_ms <= now_ms]
        amounts = await self._amounts(waves, user_id)
        found = [
            WaveWins(wave=wave.number, shares=shares)
            for wave in waves
            if (shares := await self._shares(wave, amounts, user_id))
        ]
        return CampaignWins(campaign_id=campaign_id, user_id=user_id, waves=found)

    async def _amounts(self, waves: Sequence[Wave], user_id: str) -> Mapping[str, int]:
        """Bucket -> amount. What has ended is read from the ledger alone.

        Of the others first the ledger and then Redis, which keeps a bucket long after the ledger has settled it. So no
        share is missed that is on its way from one to the other.
        """
        maybe = self._ended.not_lost([packet_id for wave in waves for packet_id in wave.buckets], user_id)
        if not maybe:
            return {}
        under_way = await self._ended.not_booked(maybe)
        amounts = dict(await self._ended.shares_of(maybe, user_id))
        asked = self._store.by_server([packet_id for packet_id in under_way if packet_id not in amounts])
        for held in await asyncio.gather(*(self._store.amounts_of(packet_ids, user_id) for packet_ids in asked)):
            amounts |= held
        return amounts

    async def _shares(self, wave: Wave, amounts: Mapping[str, int], user_id: str) -> list[GrabShare]:
        won = [packet_id for packet_id in wave.buckets if packet_id in amounts]
        results: Sequence[ClaimResult | HongbaoError] = [
            ClaimResult(Outcome.ALREADY, amounts[packet_id]) for packet_id in won
        ]
        if any(wave.prize_of[packet_id].is_coupon for packet_id in won):
            results = await self._claims.with_coupons([(packet_id, user_id) for packet_id in won], results)
        shares = []
        for packet_id, result in zip(won, results, strict=True):
            if isinstance(result, HongbaoError):
                raise result
            shares.append(share_in(wave, packet_id, result, self._currency))
        return shares
