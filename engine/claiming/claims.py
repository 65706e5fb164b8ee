"""Claiming: one answer for a user, from this process's memory of ended packets, the script, or the ledger."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from itertools import repeat
from types import MappingProxyType

import asyncpg

from engine.claiming.acks import Acks
from engine.claiming.batcher import Batcher
from engine.claiming.batches import Deliver
from engine.claiming.finished import Finished
from engine.coupons.given import GivenCoupons
from engine.errors import (
    BusyError,
    FrozenError,
    HongbaoError,
    LimitReachedError,
    NotArrivedError,
    NotInvitedError,
    OpeningError,
    RecoveringError,
    UnavailableError,
    UnknownPacketError,
)
from engine.ids import lane_of, may_be_in_campaign, may_be_special
from engine.lanes.store import Store
from engine.ledger.database import ledger_errors
from engine.observability import metrics
from engine.queries import load
from engine.records import ClaimResult, LimitedResult, Outcome, PacketState, Purpose

SQL = load("claims")
_IN_CAMPAIGN_MAX = 10_000
"""Of how many packets is remembered whether they are a part of a campaign, as they look."""
_UNKNOWN = UnknownPacketError("No packet has this number.")
_OUTCOMES = {
    PacketState.EXHAUSTED: Outcome.EMPTY,
    PacketState.EXPIRED: Outcome.EXPIRED,
    PacketState.RETRACTED: Outcome.RETRACTED,
}
"""The answers after a packet has ended."""
_GIVEN = frozenset({Outcome.CLAIMED, Outcome.ALREADY})
_ENDED = frozenset(_OUTCOMES.values())
_RECEIVED = "This account has received as much as it may in a day. It can claim again when the day ends in China."
_REFUSALS: dict[Outcome, Callable[[], HongbaoError]] = {
    Outcome.BUSY: lambda: BusyError("The ledger is too far behind to take more claims: try again in a moment."),
    Outcome.NOT_INVITED: lambda: NotInvitedError("This packet is for other users."),
    Outcome.HELD: lambda: NotArrivedError("This transfer has not arrived yet; its sender can still cancel it."),
    Outcome.FROZEN: lambda: FrozenError("This account is frozen and cannot claim."),
}


class Claims:
    """Use cases of those who claim. Every method raises UnavailableError when Redis or Postgres does not answer.

    ``full_lanes``: those whose batcher refuses claims at this moment.
    """

    def __init__(  # noqa: PLR0917 - what a claim asks, in that order
        self,
        pool: asyncpg.Pool,
        store: Store,
        batchers: Mapping[int, Batcher],
        full_lanes: Set[int],
        acks: Acks,
        coupons: GivenCoupons,
    ) -> None:
        metrics.show(metrics.CLAIMS, *(outcome.name.lower() for outcome in Outcome))
        self._pool, self._batchers, self._coupons = pool, batchers, coupons
        self.full_lanes = full_lanes
        self._in_campaign: dict[str, bool] = {}
        self.finished = Finished(store, acks)

    async def claim(self, packet_id: str, user_id: str) -> ClaimResult:
        """Claim one share; the outcome is CLAIMED, ALREADY, EMPTY, EXPIRED or RETRACTED. The first two say
        which coupon it is of a packet of coupons.

        Raises UnknownPacketError, NotInvitedError, UnconfirmedError when the claim stands and is not yet as safe as it
        was asked to be, UndecidedError when it may stand, and else UnavailableError or another of its kinds: nothing
        was decided.
        """
        if not may_be_special(packet_id):
            return await self.claim_bucket(packet_id, user_id)
        if may_be_in_campaign(packet_id):
            await self._refuse_of_campaigns([packet_id])
        return await self.with_coupon(packet_id, user_id, await self.claim_bucket(packet_id, user_id))

    async def with_coupon(self, packet_id: str, user_id: str, result: ClaimResult) -> ClaimResult:
        """The result of a claim that may be of coupons, as a CouponResult if it is of one and the user got it.

        Raises UnconfirmedError if the coupon cannot be shown.
        """
        (answer,) = await self._coupons.with_coupons([(packet_id, user_id)], [result])
        if isinstance(answer, HongbaoError):
            raise answer
        return answer

    async def claim_bucket(self, packet_id: str, user_id: str) -> ClaimResult:
        """As ``claim``, also of a packet that is a part of a campaign: only who grabs in the campaign claims it so."""
        result = self.finished.answer(packet_id, user_id)
        if result is None:
            result = await self._batcher_of(packet_id).claim(packet_id, user_id)
            if not self.is_final(packet_id, result):
                result = await self.decided(packet_id, user_id, result)
        return result

    async def _refuse_of_campaigns(self, packet_ids: Collection[str]) -> None:
        """Raise NotInvitedError if one of these is a part of a campaign: whoever won there could win here, too."""
        known = {packet_id: self._in_campaign.get(packet_id) for packet_id in packet_ids}
        if unknown := [int(packet_id) for packet_id, is_part in known.items() if is_part is None]:
            with ledger_errors(is_undone=True):
                rows = await self._pool.fetch(SQL["purposes"], unknown)
            found = {str(row["packet_id"]): row["purpose"] == Purpose.CAMPAIGN for row in rows}
            if len(self._in_campaign) + len(found) > _IN_CAMPAIGN_MAX:
                self._in_campaign.clear()
            self._in_campaign |= found
            known |= found
        if any(known.values()):
            raise NotInvitedError("This packet is a part of a campaign: grab in the campaign.")

    async def claim_many(self, claims: Sequence[tuple[str, str]]) -> list[ClaimResult | HongbaoError]:
        """Claim for many (packet, user), each answered as ``claim`` would answer or raise, in the same order.

        One script call per lane, so at most 1,000 claims.
        """
        of_campaigns = {packet_id for packet_id, _ in claims if may_be_in_campaign(packet_id)}
        refused = {packet_id: error for packet_id in of_campaigns if (error := await self._refused(packet_id))}
        results = await self.claim_buckets(claims, refused)
        special = {packet_id for packet_id, _ in claims if may_be_special(packet_id)} - refused.keys()
        return await self._with_coupons(special, claims, results) if special else results

    async def claim_buckets(
        self, claims: Sequence[tuple[str, str]], refused: Mapping[str, HongbaoError] = MappingProxyType({})
    ) -> list[ClaimResult | HongbaoError]:
        """As ``claim_many``, also of packets that are parts of a campaign: see ``claim_bucket``. Without their coupons.

        ``refused``: packets that are not asked, and what is said of them.
        """
        users_of: dict[str, list[str]] = {}
        for packet_id, user_id in claims:
            users = users_of.get(packet_id)
            if users is None:
                users_of[packet_id] = [user_id]
            else:
                users.append(user_id)
        lanes: dict[int, dict[str, list[str]]] = {}
        answers_of: dict[str, Iterator[ClaimResult | HongbaoError]] = {}
        for packet_id, users in users_of.items():
            known: Sequence[ClaimResult | HongbaoError] | None = self.finished.answers(packet_id, users)
            if packet_id in refused:
                known = [refused[packet_id]] * len(users)
            if known is None:
                lanes.setdefault(lane_of(packet_id), {})[packet_id] = users
            else:
                answers_of[packet_id] = iter(known)
        answered = await asyncio.gather(*(self._claim_lane(lane, asked) for lane, asked in lanes.items()))
        for asked, answers in zip(lanes.values(), answered, strict=True):
            first = 0
            for packet_id, users in asked.items():
                answers_of[packet_id] = iter(answers[first : first + len(users)])
                first += len(users)
        return [next(answers_of[packet_id]) for packet_id, _ in claims]

    async def _with_coupons(
        self, special: Set[str], claims: Sequence[tuple[str, str]], results: list[ClaimResult | HongbaoError]
    ) -> list[ClaimResult | HongbaoError]:
        places = [place for place, (packet_id, _) in enumerate(claims) if packet_id in special]
        asked, found = [claims[place] for place in places], [results[place] for place in places]
        for place, result in zip(places, await self.with_coupons(asked, found), strict=True):
            results[place] = result
        return results

    async def with_coupons(
        self, claims: Sequence[tuple[str, str]], results: Sequence[ClaimResult | HongbaoError]
    ) -> list[ClaimResult | HongbaoError]:
        """As ``with_coupon``, for many: whose coupon cannot be shown gets UnconfirmedError."""
        return await self._coupons.with_coupons(claims, results)

    async def _refused(self, packet_id: str) -> HongbaoError | None:
        """The error of a claim of a packet that is a part of a campaign. None if it is none."""
        try:
            await self._refuse_of_campaigns([packet_id])
        except HongbaoError as error:
            return error
        return None

    async def _claim_lane(self, lane: int, asked: Mapping[str, Sequence[str]]) -> Sequence[ClaimResult | HongbaoError]:
        """What ``claim_many`` returns for the claims of one lane (packet -> users), in the order of iteration."""
        size = sum(map(len, asked.values()))
        batcher = self._batchers.get(lane)
        if batcher is None:
            return [_UNKNOWN] * size
        try:
            answers = [*await batcher.claim_all(asked)]
        except HongbaoError as error:
            return [error] * size
        lost = [
            (place, answer)
            for place, answer in enumerate(answers)
            if isinstance(answer, ClaimResult) and answer.outcome not in _GIVEN
        ]
        if not lost:
            return answers
        claims = [(packet_id, user_id) for packet_id, users in asked.items() for user_id in users]
        undecided = [(place, result) for place, result in lost if not self.is_final(claims[place][0], result)]
        decided = await self._decided([claims[place] for place, _ in undecided], [result for _, result in undecided])
        for (place, _), answer in zip(undecided, decided, strict=True):
            answers[place] = answer
        return answers

    def ask(self, packet_id: str, user_id: str, deliver: Deliver) -> None:
        """The first half of ``claim``: what the script answers, handed to ``deliver`` once it is known.

        What is not ``is_final`` goes through ``decided``. Not for a packet that ``may_be_special``. Raises
        UnknownPacketError, OverloadedError.
        """
        self._batcher_of(packet_id).claim_for(packet_id, user_id, deliver)

    def _batcher_of(self, packet_id: str) -> Batcher:
        batcher = self._batchers.get(lane_of(packet_id))
        if batcher is None:
            raise UnknownPacketError("No packet has this number.")
        return batcher

    def is_final(self, packet_id: str, result: ClaimResult) -> bool:
        """Whether the script's answer is all there is to say."""
        outcome = result.outcome
        if outcome in _ENDED:
            self.finished.learn(packet_id)
            return True
        return outcome in _GIVEN

    async def decided(self, packet_id: str, user_id: str, result: ClaimResult) -> ClaimResult:
        """The second half of ``claim``: what it means that nothing was given and the packet has not ended."""
        (answer,) = await self._decided([(packet_id, user_id)], [result])
        if isinstance(answer, HongbaoError):
            raise answer
        return answer

    async def _decided(
        self, claims: Sequence[tuple[str, str]], results: Sequence[ClaimResult]
    ) -> list[ClaimResult | HongbaoError]:
        refused = iter([_refusal(result) for result in results if result.outcome is not Outcome.MISSING])
        missing = [claim for claim, result in zip(claims, results, strict=True) if result.outcome is Outcome.MISSING]
        remembered: Iterator[ClaimResult | HongbaoError] = iter(())
        try:
            with ledger_errors(is_undone=True):
                packet_ids, users = [int(packet_id) for packet_id, _ in missing], [user_id for _, user_id in missing]
                rows = await self._pool.fetch(SQL["claims_of"], packet_ids, users) if missing else []
            remembered = map(_remembered, rows)
        except UnavailableError as error:
            remembered = repeat(error)
        return [next(remembered if result.outcome is Outcome.MISSING else refused) for result in results]


def _refusal(result: ClaimResult) -> HongbaoError:
    if isinstance(result, LimitedResult):
        return LimitReachedError(_RECEIVED, "day_received_fen_max", result.until_ms)
    return _REFUSALS[result.outcome]()


def _remembered(row: asyncpg.Record) -> ClaimResult | HongbaoError:
    """What the ledger knows of a claim on a packet that Redis does not hold."""
    if row["state"] is None:
        return UnknownPacketError("No packet has this number.")
    if row["amount_fen"] is not None:
        return ClaimResult(Outcome.ALREADY, row["amount_fen"])
    state = PacketState(row["state"])
    if state is PacketState.FUNDED:
        return OpeningError("The packet's shares are still being loaded: try again in a moment.")
    if state is PacketState.OPEN:
        return RecoveringError("This packet is being recovered from the ledger: try again in a few seconds.")
    if state is PacketState.EXHAUSTED and row["for_others"]:  # as the script would have said
        return NotInvitedError("This packet is for other users.")
    return ClaimResult(_OUTCOMES[state], 0)
