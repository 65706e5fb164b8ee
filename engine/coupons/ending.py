"""What becomes of a coupon: it is redeemed or declared void by its batch's owner, or passed on by its holder.

Each locks the coupon's row first. So of two acts on a coupon the second sees what the first has done, and its time is
over at one moment, by Postgres's clock, for all of them. Every act moves one unit in the ledger.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg

from engine.coupons import codes
from engine.coupons.batches import Batch, Batches
from engine.coupons.given import NO_COUPON, numbers_in
from engine.errors import (
    CouponEndedError,
    CouponNotValidYetError,
    FieldProblem,
    FrozenError,
    InvalidFieldsError,
    NotTransferableError,
    UnknownCouponBatchError,
    UnknownCouponError,
)
from engine.ids import USER_ID_RULE, is_user_id
from engine.ledger import idempotency
from engine.ledger.database import Connection, ledger_errors
from engine.ledger.money import SQL as MONEY
from engine.ledger.money import move, now_ms
from engine.queries import load
from engine.records import CouponFace, CouponState
from engine.text import TEXT_RULE, is_readable

SQL, ASSETS = load("coupons"), load("assets")
NOTE_LENGTH_MAX = 200
_ENDED = {
    CouponState.REDEEMED: "The coupon has been redeemed.",
    CouponState.VOID: "The coupon has been declared void.",
    CouponState.EXPIRED: "The coupon's time is over.",
}
_NO_UNIT = "whoever holds a coupon has its unit in the ledger"
_HOLDER_FROZEN = "The holder's account is frozen: their coupons stay where they are."
Find = Callable[[], Awaitable[tuple[Batch, int]]]
"""Returns the batch and the number of the coupon that is meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CouponEnd:
    """A coupon was redeemed or declared void. ``transfer_id``: the ledger's entry."""

    coupon_id: str
    state: CouponState
    holder: str
    name: str
    face: CouponFace
    ended_at_ms: int
    transfer_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CouponPassedOn:
    """A coupon was passed on. ``transfer_id``: the ledger's entry."""

    coupon_id: str
    holder: str
    transfer_id: str


class CouponActs:
    """Use cases on a single coupon.

    Every method also returns whether it was answered before under its key. It raises UnavailableError if Postgres does
    not answer.
    """

    def __init__(self, pool: asyncpg.Pool, batches: Batches) -> None:
        self._pool, self._batches = pool, batches

    async def redeem(
        self, coupon_id: str, owner: str, *, note: str = "", idempotency_key: str, request_hash: bytes
    ) -> tuple[CouponEnd, bool]:
        """Redeem a coupon, for its batch's owner. ``note``: the owner's own words, as an order's number.

        Raises UnknownCouponError, NotSenderError, CouponEndedError, CouponNotValidYetError, FrozenError if its holder
        is frozen, InvalidFieldsError, and as ``idempotency.once`` does.
        """
        request = _request(owner, "redeem_coupon", idempotency_key, request_hash)
        return await self._end(CouponState.REDEEMED, request, self._by_number(coupon_id, owner), note=note)

    async def redeem_code(
        self, batch_id: str, code: str, owner: str, *, note: str = "", idempotency_key: str, request_hash: bytes
    ) -> tuple[CouponEnd, bool]:
        """The same by its code. ``request_hash`` need not cover the code. Raises UnknownCouponBatchError, too."""
        batch = await self._batches.owned(int(batch_id), owner)
        keys = self._batches.keys_of(batch)
        # The hash is kept. Nobody who reads it may try codes with it, so what is added of the code is keyed.
        request = _request(owner, "redeem_code", idempotency_key, request_hash + keys.hash(code.encode()))

        async def find() -> tuple[Batch, int]:
            number = codes.number_in(keys, code)
            if batch.terms.codes == "uploaded":
                with ledger_errors(is_undone=True):
                    number = await self._pool.fetchval(SQL["number_of_code"], batch.batch_id, keys.hash(code.encode()))
            if number is None:
                raise UnknownCouponError(NO_COUPON)
            return batch, number

        derived_code = code if batch.terms.codes == "derived" else None
        return await self._end(CouponState.REDEEMED, request, find, note=note, code=derived_code)

    async def void(
        self, coupon_id: str, owner: str, *, note: str = "", idempotency_key: str, request_hash: bytes
    ) -> tuple[CouponEnd, bool]:
        """Declare a coupon void, for its batch's owner. Raises as ``redeem``, but may come before the coupon's time."""
        request = _request(owner, "void_coupon", idempotency_key, request_hash)
        return await self._end(CouponState.VOID, request, self._by_number(coupon_id, owner), note=note)

    async def pass_on(
        self, coupon_id: str, holder: str, to: str, *, idempotency_key: str, request_hash: bytes
    ) -> tuple[CouponPassedOn, bool]:
        """Pass a coupon on to another user, for its holder.

        Raises UnknownCouponError for anybody but its holder, NotTransferableError, CouponEndedError, FrozenError,
        InvalidFieldsError, and as ``idempotency.once`` does.
        """

        async def check() -> Batch:
            if not is_user_id(to):
                raise InvalidFieldsError([FieldProblem("to", USER_ID_RULE)])
            if to == holder:
                raise InvalidFieldsError([FieldProblem("to", "must be another user")])
            return await self._batch_of(coupon_id)

        async def work(connection: Connection, batch: Batch) -> dict[str, Any]:
            return await _pass_on(connection, batch, numbers_in(coupon_id)[1], holder, to)

        request = _request(holder, "transfer_coupon", idempotency_key, request_hash)
        answered = await idempotency.once(self._pool, request, check=check, work=work)
        return CouponPassedOn(**answered.answer), answered.replayed

    def _by_number(self, coupon_id: str, owner: str) -> Find:
        async def find() -> tuple[Batch, int]:
            batch = await self._batch_of(coupon_id)
            return await self._batches.owned(batch.batch_id, owner), numbers_in(coupon_id)[1]

        return find

    async def _batch_of(self, coupon_id: str) -> Batch:
        try:
            return await self._batches.known(numbers_in(coupon_id)[0])
        except UnknownCouponBatchError:
            raise UnknownCouponError(NO_COUPON) from None

    async def _end(
        self, state: CouponState, request: idempotency.Request, find: Find, *, note: str, code: str | None = None
    ) -> tuple[CouponEnd, bool]:
        async def check() -> tuple[Batch, int]:
            if len(note) > NOTE_LENGTH_MAX:
                raise InvalidFieldsError([FieldProblem("note", f"must have at most {NOTE_LENGTH_MAX} characters")])
            if not is_readable(note):
                raise InvalidFieldsError([FieldProblem("note", TEXT_RULE)])
            return await find()

        async def work(connection: Connection, found: tuple[Batch, int]) -> dict[str, Any]:
            batch, number = found
            row = await _lock(connection, batch, number)
            if code is not None and not codes.is_same(
                code, codes.derived(self._batches.keys_of(batch), number, row["moves"])
            ):
                raise UnknownCouponError(NO_COUPON)
            return await _end(connection, batch, row, state, note)

        answered = await idempotency.once(self._pool, request, check=check, work=work)
        batch = await self._batches.known(numbers_in(answered.answer["coupon_id"])[0])
        state = CouponState(answered.answer["state"])
        end = CouponEnd(**{**answered.answer, "state": state}, name=batch.terms.name, face=batch.terms.face)
        return end, answered.replayed


def _request(principal: str, operation: str, key: str, request_hash: bytes) -> idempotency.Request:
    return idempotency.Request(principal=principal, operation=operation, key=key, request_hash=request_hash)


async def _lock(connection: Connection, batch: Batch, number: int) -> asyncpg.Record:
    row = await connection.fetchrow(SQL["lock_coupon"], batch.batch_id, number)
    if row is None:
        raise UnknownCouponError(NO_COUPON)
    return row


async def _end(
    connection: Connection, batch: Batch, row: asyncpg.Record, state: CouponState, note: str
) -> dict[str, Any]:
    """End a coupon whose row is locked: its unit goes back to the issuer."""
    holder, number = row["holder"], row["number"]
    accounts = await connection.fetch(SQL["lock_accounts"], [holder], batch.asset)
    at_ms = await now_ms(connection)
    _check_held(row, batch, at_ms)
    if state is CouponState.REDEEMED:
        if at_ms < batch.terms.valid_from_ms:
            raise CouponNotValidYetError(f"The coupon's time begins at {batch.terms.valid_from_ms}.")
        if _of(accounts, "wallet", holder)["frozen"]:
            raise FrozenError(_HOLDER_FROZEN)
    kind = "redeem" if state is CouponState.REDEEMED else "coupon_void"
    moved = (kind, _of(accounts, "holding", holder)["account_id"], batch.issuer, at_ms)
    transfer_id = await connection.fetchval(SQL["end_coupon"], batch.batch_id, number, *moved, state, note or None)
    if transfer_id is None:
        raise AssertionError(_NO_UNIT)
    return {
        "coupon_id": f"{batch.batch_id}-{number}",
        "state": state,
        "holder": holder,
        "ended_at_ms": at_ms,
        "transfer_id": str(transfer_id),
    }


async def _pass_on(connection: Connection, batch: Batch, number: int, holder: str, to: str) -> dict[str, Any]:
    row = await _lock(connection, batch, number)
    if row["holder"] != holder:
        raise UnknownCouponError(NO_COUPON)
    if not batch.terms.is_transferable:
        raise NotTransferableError("The coupons of this batch cannot be passed on.")
    await connection.execute(MONEY["create_wallet"], to)  # everybody who holds something has a wallet
    await connection.execute(ASSETS["create_holding"], to, batch.asset)
    accounts = await connection.fetch(SQL["lock_accounts"], [holder, to], batch.asset)
    at_ms = await now_ms(connection)
    _check_held(row, batch, at_ms)
    own = _of(accounts, "wallet", holder)
    if own["frozen"] or (own["sending_frozen_until_ms"] or 0) > at_ms:
        raise FrozenError("This account is frozen and cannot pass coupons on.")
    if await connection.fetchval(SQL["cannot_receive"], to, at_ms):
        raise FrozenError("The other account is frozen and cannot receive coupons.")
    payer, payee = [_of(accounts, "holding", user)["account_id"] for user in (holder, to)]
    transfer_id = await move(connection, "coupon_transfer", payer=payer, payee=payee, amount_fen=1, at_ms=at_ms)
    if transfer_id is None:
        raise AssertionError(_NO_UNIT)
    await connection.execute(SQL["pass_on"], batch.batch_id, number, to)
    return {"coupon_id": f"{batch.batch_id}-{number}", "holder": to, "transfer_id": str(transfer_id)}


def _check_held(row: asyncpg.Record, batch: Batch, at_ms: int) -> None:
    state = CouponState(row["state"])
    if state is CouponState.HELD and at_ms >= batch.terms.valid_until_ms:
        state = CouponState.EXPIRED  # whether it was swept or not
    if state is not CouponState.HELD:
        raise CouponEndedError(_ENDED[state], state)


def _of(accounts: list[asyncpg.Record], kind: str, owner: str) -> asyncpg.Record:
    return next(row for row in accounts if row["kind"] == kind and row["owner"] == owner)
