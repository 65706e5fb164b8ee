"""Grabbing in a campaign: which bucket a user's tap goes to, and what the tap is answered."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import NamedTuple

from engine.access.admissions import Admission
from engine.campaigns import draws
from engine.campaigns.ended import Ended
from engine.campaigns.register import Campaign, Known, Register, Wave
from engine.campaigns.terms import Who
from engine.claiming.claims import Claims
from engine.errors import BusyError, HongbaoError, NotArrivedError, NotInvitedError
from engine.observability import metrics
from engine.records import ClaimResult, Coupon, CouponResult, Outcome

_USERS_KNOWN_MAX = 200_000
"""Of how many users a process remembers the last tap, and how often they have won before."""
REFUSED = "refused"
"""The metrics' word for a tap that was answered with an error."""


class GrabOutcome(StrEnum):
    """What a tap is answered. Only CLAIMED and ALREADY_CLAIMED have shares."""

    CLAIMED = "claimed"
    ALREADY_CLAIMED = "already_claimed"  # all that the user may win in this wave
    MISSED = "missed"  # the odds are against this user in this wave
    SOLD_OUT = "sold_out"
    ENOUGH = "enough"  # the user has won as often as one may in this campaign
    TOO_SOON = "too_soon"  # after the user's last tap
    NOT_STARTED = "not_started"
    BETWEEN_WAVES = "between_waves"
    PAUSED = "paused"
    OVER = "over"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrabShare:
    """A share that a user has won. ``amount_fen`` is 10^-scale of ``asset``. ``coupon``: if it is one."""

    packet_id: str
    asset: str
    scale: int
    amount_fen: int
    coupon: Coupon | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grab:
    """One tap's answer. ``wave``: the one it is about, None if there is none.

    ``shares``: with CLAIMED the new one, with ALREADY_CLAIMED all of the wave. ``starts_at_ms``: when the next wave
    starts, while one is waited for. ``again_at_ms``: when the user may tap again, with TOO_SOON. ``now_ms``: the
    server's clock.
    """

    outcome: GrabOutcome
    shares: Sequence[GrabShare]
    campaign_id: str
    user_id: str
    wave: int | None
    starts_at_ms: int | None
    again_at_ms: int | None
    now_ms: int


class Asked(NamedTuple):
    """One tap. ``admission``: what the user was let in with, if anything."""

    campaign_id: str
    user_id: str
    admission: Admission | None = None


class Grabbing:
    """Use cases of those who tap. Every method raises UnavailableError if a server that it needs does not answer."""

    def __init__(self, register: Register, claims: Claims, ended: Ended, currency: str) -> None:
        self._register, self._claims, self.ended, self._currency = register, claims, ended, currency
        self._taps_ms: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._won_before: OrderedDict[tuple[str, int, str], int] = OrderedDict()
        self._answered: Counter[str] = Counter()
        metrics.show(metrics.GRABS, *GrabOutcome, REFUSED)

    def flush(self) -> None:
        """Report the number of answers to the metrics."""
        for outcome, count in self._answered.items():
            metrics.GRABS.labels(outcome).inc(count)
        self._answered.clear()

    async def grab(self, campaign_id: str, user_id: str, admission: Admission | None = None) -> Grab:
        """Tap once. Whoever has won all they may in a wave hears of it again, also after its end until the next wave.

        Raises UnknownCampaignError, NotInvitedError, FrozenError, LimitReachedError, and as ``Claims.claim`` does.
        """
        before_ms = self._taps_ms.get((campaign_id, user_id))
        try:
            grab = await self._grab(campaign_id, user_id, admission)
        except HongbaoError:
            self._answered[REFUSED] += 1
            self._untap((campaign_id, user_id), before_ms)
            raise
        self._answered[grab.outcome] += 1
        return grab

    async def _grab(self, campaign_id: str, user_id: str, admission: Admission | None) -> Grab:
        walk = await self._begin(campaign_id, user_id, admission)
        while isinstance(walk, _Walk):
            packet_id = walk.next
            if packet_id is None:
                return walk.end()
            try:
                result: ClaimResult | HongbaoError = await self._claims.claim_bucket(packet_id, user_id)
            except HongbaoError as error:
                result = error
            (found,) = await self._with_coupons([(walk.wave, packet_id, user_id)], [result])
            walk = await _taken(self._go_on(walk, packet_id, found))
        return walk

    async def grab_many(self, grabs: Sequence[Asked]) -> list[Grab | HongbaoError]:
        """Tap for many, each answered as ``grab`` would answer or raise, in the same order.

        All ask their first buckets together, then those who go on ask their next ones: a call per lane each time.
        """
        answers: dict[int, Grab | HongbaoError] = {}
        walks: dict[int, _Walk] = {}
        taps_ms = self._taps_ms  # empty unless a campaign has a least time between taps
        before_ms = {place: taps_ms.get(asked[:2]) for place, asked in enumerate(grabs)} if taps_ms else {}

        def note(place: int, step: "_Walk | Grab | HongbaoError") -> None:
            if isinstance(step, _Walk) and step.next is not None:
                walks[place] = step
            else:
                if isinstance(step, HongbaoError):
                    self._untap(grabs[place][:2], before_ms.get(place))
                answers[place] = step.end() if isinstance(step, _Walk) else step

        for place, step in enumerate(await _all(partial(self._begin_at_once, *asked) for asked in grabs)):
            note(place, step)
        while walks:
            asking = [(place, walk, walk.next or "") for place, walk in walks.items()]
            walks.clear()
            results = await self._claims.claim_buckets([(packet_id, walk.user_id) for _, walk, packet_id in asking])
            won = [(walk.wave, packet_id, walk.user_id) for _, walk, packet_id in asking]
            found = await self._with_coupons(won, results)
            going = (
                partial(self._go_on, walk, packet_id, result)
                for (_, walk, packet_id), result in zip(asking, found, strict=True)
            )
            for (place, _, _), step in zip(asking, await _all(going), strict=True):
                note(place, step)
        self._answered.update(
            REFUSED if isinstance(answer, HongbaoError) else answer.outcome for answer in answers.values()
        )
        return [answers[place] for place in range(len(grabs))]

    async def _begin(self, campaign_id: str, user_id: str, admission: Admission | None = None) -> "_Walk | Grab":
        """What a tap is answered, or the way that it goes through the buckets."""
        return await _taken(self._begin_in(await self._register.known(campaign_id), user_id, admission))

    def _begin_at_once(self, campaign_id: str, user_id: str, admission: Admission | None = None) -> "_Step":
        """The same, without a wait if nothing must be read for it. So a batch needs no task for each of its taps."""
        known = self._register.fresh(campaign_id)
        if known is None:
            return self._begin(campaign_id, user_id, admission)
        return self._begin_in(known, user_id, admission)

    def _begin_in(self, known: Known, user_id: str, admission: Admission | None) -> "_Step":
        now_ms, campaign = known.clock_ms(), known.campaign
        if known.is_paused or known.ended_at_ms is not None:
            return _waiting(known, user_id, now_ms)
        wave = campaign.wave_at(now_ms)
        if wave is None:
            return self._between(known, user_id, now_ms)
        return self._enter(known, wave, user_id, now_ms, _wins_max(campaign, wave, user_id, admission))

    async def _between(self, known: Known, user_id: str, now_ms: int) -> Grab:
        """The answer while no wave goes on: what the user won in the last one, if anything."""
        last = known.campaign.last_wave(now_ms)
        if last is not None and (won := await self._won(known.campaign, last, user_id)):
            return _answer(known, user_id, now_ms, GrabOutcome.ALREADY_CLAIMED, last, won)
        return _waiting(known, user_id, now_ms)

    def _enter(self, known: Known, wave: Wave, user_id: str, now_ms: int, wins_max: int | None) -> "_Step":
        """What a tap is answered in a wave, or its way."""
        campaign = known.campaign
        if again_at_ms := self._too_soon(campaign, user_id, now_ms):
            return _answer(known, user_id, now_ms, GrabOutcome.TOO_SOON, wave, again_at_ms=again_at_ms)
        if not _may_win(campaign, wave, user_id):
            return _answer(known, user_id, now_ms, GrabOutcome.MISSED, wave)
        if wins_max is not None:
            return self._enter_bounded(known, wave, user_id, now_ms, wins_max)
        return self._walk(known, wave, user_id, now_ms, campaign.wave_wins_max)

    async def _enter_bounded(
        self, known: Known, wave: Wave, user_id: str, now_ms: int, wins_max: int
    ) -> "_Walk | Grab":
        left = wins_max - await self._wins_before(known.campaign, wave, user_id)
        if left <= 0:
            return _answer(known, user_id, now_ms, GrabOutcome.ENOUGH, wave)
        return self._walk(known, wave, user_id, now_ms, min(known.campaign.wave_wins_max, left))

    def _walk(self, known: Known, wave: Wave, user_id: str, now_ms: int, most: int) -> "_Walk":
        return _Walk(known, wave, user_id, now_ms, most, self.ended.not_lost(wave.buckets, user_id))

    def _go_on(self, walk: "_Walk", packet_id: str, found: ClaimResult | HongbaoError) -> "_Step":
        """Go on after a bucket has answered. Raises what it raised, and BusyError if its end is not certain yet."""
        if isinstance(found, NotArrivedError):  # by the clock of its own server
            return _waiting(walk.known, walk.user_id, min(walk.now_ms, walk.wave.starts_at_ms - 1))
        if isinstance(found, HongbaoError):
            raise found
        share = share_in(walk.wave, packet_id, found, self._currency)
        if found.outcome is Outcome.CLAIMED:
            return _answer(walk.known, walk.user_id, walk.now_ms, GrabOutcome.CLAIMED, walk.wave, [share])
        if found.outcome is not Outcome.ALREADY:
            return self._go_past(walk, packet_id)
        walk.won.append(share)
        walk.go_on()
        return walk

    async def _go_past(self, walk: "_Walk", packet_id: str) -> "_Walk":
        """Go on after a bucket that has nothing for the user."""
        await self._must_be_booked(packet_id)
        walk.go_on()
        return walk

    def _too_soon(self, campaign: Campaign, user_id: str, now_ms: int) -> int:
        """Note a tap. If it comes too soon after the user's last one, when they may tap again, otherwise 0.

        Each process knows its own taps, up to a bound: this is about the pace, and not about what anybody may win.
        """
        if not campaign.interval_ms:
            return 0
        tap = (campaign.campaign_id, user_id)
        again_at_ms = self._taps_ms.get(tap, 0)
        if again_at_ms > now_ms:
            return again_at_ms
        self._taps_ms[tap] = now_ms + campaign.interval_ms
        self._taps_ms.move_to_end(tap)
        if len(self._taps_ms) > _USERS_KNOWN_MAX:
            self._taps_ms.popitem(last=False)
        return 0

    def _untap(self, tap: tuple[str, str], before_ms: int | None) -> None:
        """Forget a tap that decided nothing: it may be repeated at once. The one before it still counts."""
        if before_ms is None:
            self._taps_ms.pop(tap, None)
        else:
            self._taps_ms[tap] = before_ms

    async def _wins_before(self, campaign: Campaign, wave: Wave, user_id: str) -> int:
        """How many shares a user has won in all earlier waves. They are over, so it stays."""
        key = (campaign.campaign_id, wave.number, user_id)
        if (wins := self._won_before.get(key)) is not None:
            return wins
        maybe = self.ended.not_lost(campaign.buckets_before(wave), user_id)
        for packet_id in maybe:
            await self._must_be_booked(packet_id)
        wins = self._won_before[key] = len(await self.ended.shares_of(maybe, user_id)) if maybe else 0
        if len(self._won_before) > _USERS_KNOWN_MAX:
            self._won_before.popitem(last=False)
        return wins

    async def _won(self, campaign: Campaign, wave: Wave, user_id: str) -> list[GrabShare]:
        """What a user has won in a wave that is over."""
        if not _may_win(campaign, wave, user_id):
            return []
        maybe = self.ended.not_lost(wave.buckets, user_id)
        for packet_id in maybe:
            await self._must_be_booked(packet_id)
        shares = await self.ended.shares_of(maybe, user_id) if maybe else []
        results = [ClaimResult(Outcome.ALREADY, amount_fen) for _, amount_fen in shares]
        found = await self._with_coupons([(wave, packet_id, user_id) for packet_id, _ in shares], results)
        won = []
        for (packet_id, _), result in zip(shares, found, strict=True):
            if isinstance(result, HongbaoError):
                raise result
            won.append(share_in(wave, packet_id, result, self._currency))
        return won

    async def _with_coupons(
        self, asked: Sequence[tuple[Wave, str, str]], results: Sequence[ClaimResult | HongbaoError]
    ) -> Sequence[ClaimResult | HongbaoError]:
        """Results of buckets (wave, bucket, user), with the coupons that some of the shares are."""
        places = [place for place, (wave, packet_id, _) in enumerate(asked) if wave.prize_of[packet_id].is_coupon]
        if not places:
            return results
        claims = [asked[place][1:] for place in places]
        found, answers = await self._claims.with_coupons(claims, [results[place] for place in places]), list(results)
        for place, result in zip(places, found, strict=True):
            answers[place] = result
        return answers

    async def _must_be_booked(self, packet_id: str) -> None:
        if not await self.ended.is_booked(packet_id):
            raise BusyError("The ledger does not have the end of a part of this wave yet: try again in a moment.")


class _Walk:
    """A tap's way through a wave's buckets, in the user's order. ``next``: the one to ask, None at the end.

    A bucket after those that the user has won in is asked only while they may win more. What was seen as not won is
    booked, and stays so. So whatever a failover takes back, no more than ``most`` buckets give to one user.
    """

    __slots__ = ("_left", "known", "most", "next", "now_ms", "user_id", "wave", "won")

    def __init__(  # noqa: PLR0917 - what a tap is
        self, known: Known, wave: Wave, user_id: str, now_ms: int, most: int, packet_ids: Sequence[str]
    ) -> None:
        self.known, self.wave, self.user_id, self.now_ms, self.most = known, wave, user_id, now_ms, most
        self.won: list[GrabShare] = []
        self._left = _order(known.campaign, wave, packet_ids, user_id)
        self.next = next(self._left, None)

    def go_on(self) -> None:
        """To the next bucket, unless the user has all that they may win."""
        self.next = None if len(self.won) >= self.most else next(self._left, None)

    def end(self) -> Grab:
        """The answer when there is nothing more to ask."""
        outcome = GrabOutcome.ALREADY_CLAIMED if self.won else GrabOutcome.SOLD_OUT
        return _answer(self.known, self.user_id, self.now_ms, outcome, self.wave, self.won)


def share_in(wave: Wave, packet_id: str, result: ClaimResult, currency: str) -> GrabShare:
    """The share that a bucket's answer gives. ``currency``: the ledger's."""
    prize = wave.prize_of[packet_id]
    return GrabShare(
        packet_id=packet_id,
        asset=prize.asset or currency,
        scale=prize.scale,
        amount_fen=result.amount_fen,
        coupon=result.coupon if isinstance(result, CouponResult) else None,
    )


_Step = _Walk | Grab | Awaitable[_Walk | Grab]
"""What a tap comes to next. To be awaited if something must be read or waited for first."""


async def _taken(step: _Step) -> _Walk | Grab:
    return await step if isinstance(step, Awaitable) else step


async def _all(steps: Iterable[Callable[[], _Step]]) -> list[_Walk | Grab | HongbaoError]:
    """What all these steps come to, in their order. Only those that must wait become tasks."""
    taken: list[_Walk | Grab | HongbaoError | None] = []
    waiting: dict[int, Awaitable[_Walk | Grab]] = {}
    for place, take in enumerate(steps):
        try:
            step = take()
        except HongbaoError as error:
            taken.append(error)
            continue
        if isinstance(step, _Walk | Grab):
            taken.append(step)
        else:
            taken.append(None)
            waiting[place] = step
    for place, waited in zip(waiting, await asyncio.gather(*map(_or_error, waiting.values())), strict=True):
        taken[place] = waited
    return [step for step in taken if step is not None]


async def _or_error(step: Awaitable[_Walk | Grab]) -> _Walk | Grab | HongbaoError:
    try:
        return await step
    except HongbaoError as error:
        return error


def _wins_max(campaign: Campaign, wave: Wave, user_id: str, admission: Admission | None) -> int | None:
    """How many shares a user may win in all (None: no bound). Raises NotInvitedError if they may not grab."""
    if campaign.who is Who.ANYONE:
        return campaign.wins_max
    if campaign.who is Who.LISTED:
        if user_id not in campaign.guests:
            raise NotInvitedError("This campaign is for other users.")
        return campaign.wins_max
    if admission is None:
        raise NotInvitedError("This campaign needs an admission: send the field admission.")
    is_of_this = admission.campaign_id == campaign.campaign_id or (
        campaign.label is not None and admission.label == campaign.label
    )
    if admission.user_id != user_id or not is_of_this or admission.wave not in (None, wave.number):
        raise NotInvitedError("The admission is for another user, campaign or wave.")
    bounds = [bound for bound in (campaign.wins_max, admission.wins_max) if bound is not None]
    return min(bounds, default=None)


def _may_win(campaign: Campaign, wave: Wave, user_id: str) -> bool:
    return draws.may_win(campaign.seed, campaign.campaign_id, wave.number, user_id, campaign.odds_millionths)


def _order(campaign: Campaign, wave: Wave, packet_ids: Sequence[str], user_id: str) -> Iterator[str]:
    """These of a wave's buckets in the user's order."""
    if not packet_ids:  # as for most, once it is sold out
        return
    for bucket in draws.order_of(campaign.seed, campaign.campaign_id, wave.number, user_id, wave.counts):
        if wave.buckets[bucket] in packet_ids:
            yield wave.buckets[bucket]


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
    known: Known,
    user_id: str,
    now_ms: int,
    outcome: GrabOutcome,
    wave: Wave | None = None,
    shares: Sequence[GrabShare] = (),
    *,
    again_at_ms: int | None = None,
) -> Grab:
    return Grab(
        outcome=outcome,
        shares=shares,
        campaign_id=known.campaign.campaign_id,
        user_id=user_id,
        wave=None if wave is None else wave.number,
        starts_at_ms=wave.starts_at_ms if wave is not None and wave.starts_at_ms > now_ms else None,
        again_at_ms=again_at_ms,
        now_ms=now_ms,
    )
