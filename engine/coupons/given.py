"""Coupons that somebody was given: with a claim's answer, in their holder's list, and one by its number."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import asyncpg

from engine.coupons.batches import Batch, Batches
from engine.coupons.codes import derived
from engine.errors import HongbaoError, NoCouponKeyError, UnavailableError, UnconfirmedError, UnknownCouponError
from engine.ledger.database import ledger_errors
from engine.paging import NEWEST, parse
from engine.queries import load
from engine.records import ClaimResult, Coupon, CouponResult, CouponState, Outcome

SQL = load("coupons")
_GIVEN = frozenset({Outcome.CLAIMED, Outcome.ALREADY})
_NOT_SHOWN = "The claim stands, but its coupon cannot be shown at this moment: repeat it for its answer."
NO_COUPON = "No coupon that you can see has this number or code."


@dataclass(frozen=True, slots=True, kw_only=True)
class CouponsPage:
    """A user's coupons, those of the newest batches first."""

    coupons: list[Coupon]
    next: str | None


class GivenCoupons:
    """Reads coupons. Every method but ``with_coupons`` raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, batches: Batches) -> None:
        self._pool, self._batches = pool, batches

    async def with_coupons(
        self, claims: Sequence[tuple[str, str]], results: Sequence[ClaimResult | HongbaoError]
    ) -> list[ClaimResult | HongbaoError]:
        """Claims' results, with the coupons that the shares are. Results of other packets, and of losers, stay.

        ``claims``: (packet, user), each with its result. A share whose coupon cannot be shown gets UnconfirmedError.
        """
        answers = list(results)
        places = [
            place
            for place, result in enumerate(results)
            if isinstance(result, ClaimResult) and result.outcome in _GIVEN
        ]
        if not places:
            return answers
        packets, users = [int(claims[place][0]) for place in places], [claims[place][1] for place in places]
        try:
            with ledger_errors():
                rows = await self._pool.fetch(SQL["of_claims"], packets, users)
            batches = await self._batches.known_of({row["batch_id"] for row in rows} - {None})
        except UnavailableError:
            for place in places:
                answers[place] = UnconfirmedError(_NOT_SHOWN)
            return answers
        for place, row, user_id in zip(places, rows, users, strict=True):
            result = results[place]
            if row["batch_id"] is not None and isinstance(result, ClaimResult):
                answers[place] = self._with_coupon(result, row, batches[row["batch_id"]], user_id)
        return answers

    def _with_coupon(
        self, result: ClaimResult, row: asyncpg.Record, batch: Batch, user_id: str
    ) -> ClaimResult | HongbaoError:
        if row["number"] is None:  # the ledger could not take the claim
            return UnconfirmedError(_NOT_SHOWN)
        try:
            coupon = self.coupon_of(row, batch, user_id)
        except NoCouponKeyError:
            return UnconfirmedError(_NOT_SHOWN)
        return CouponResult(result.outcome, result.amount_fen, coupon=coupon)

    async def of_holder(
        self, user_id: str, *, state: CouponState | None, after: str | None, limit: int, shows_codes: bool
    ) -> CouponsPage:
        """Some of a user's coupons. Raises InvalidFieldsError for an invalid cursor, NoCouponKeyError."""
        start = parse(after, parts=2, start=(NEWEST, 0))
        with ledger_errors():
            rows = await self._pool.fetch(SQL["of_holder"], user_id, *start, state, limit + 1)
        batches = await self._batches.known_of(row["batch_id"] for row in rows)
        viewer = user_id if shows_codes else None
        coupons = [self.coupon_of(row, batches[row["batch_id"]], viewer) for row in rows[:limit]]
        return CouponsPage(coupons=coupons, next=coupons[-1].coupon_id if len(rows) > limit else None)

    async def get(self, coupon_id: str, user_id: str | None, *, sees_all: bool = False) -> Coupon:
        """A coupon for its holder, who alone sees the code, for its batch's owner, or for who ``sees_all``.

        Raises UnknownCouponError for anybody else, NoCouponKeyError.
        """
        batch_id, number = numbers_in(coupon_id)
        batches = await self._batches.known_of([batch_id])
        with ledger_errors():
            row = await self._pool.fetchrow(SQL["coupon"], batch_id, number) if batches else None
        if row is None or not (sees_all or user_id in (row["holder"], batches[batch_id].owner)):
            raise UnknownCouponError(NO_COUPON)
        coupon = self.coupon_of(row, batches[batch_id], user_id)
        is_over = coupon.state is CouponState.HELD and row["now_ms"] >= coupon.valid_until_ms
        return replace(coupon, state=CouponState.EXPIRED) if is_over else coupon

    def coupon_of(self, row: asyncpg.Record, batch: Batch, viewer: str | None) -> Coupon:
        """A row as a coupon, with its code if the viewer holds it. Raises NoCouponKeyError."""
        code = None
        if viewer == row["holder"]:
            keys = self._batches.keys_of(batch)
            if batch.terms.codes == "derived":
                code = derived(keys, row["number"], row["moves"])
            else:
                code = keys.unseal(row["number"], row["sealed"])
        return Coupon(
            coupon_id=f"{batch.batch_id}-{row['number']}",
            batch_id=str(batch.batch_id),
            name=batch.terms.name,
            face=batch.terms.face,
            state=CouponState(row["state"]),
            holder=row["holder"],
            code=code,
            is_transferable=batch.terms.is_transferable,
            valid_from_ms=batch.terms.valid_from_ms,
            valid_until_ms=batch.terms.valid_until_ms,
            given_at_ms=row["given_at_ms"],
            ended_at_ms=row["ended_at_ms"],
        )


def numbers_in(coupon_id: str) -> tuple[int, int]:
    """The batch and the number in a coupon's number, whose form was checked."""
    batch_id, _, number = coupon_id.partition("-")
    return int(batch_id), int(number)
