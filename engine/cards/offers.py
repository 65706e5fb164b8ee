"""Exchanges: a user offers a card for another, to one user or to anyone, and who accepts gives the other at once.

The offered card is put aside when it is offered. So an offer that can be accepted can always be kept, and accepting is
one transaction that moves both cards, or none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import asyncpg

from engine.cards import moving
from engine.cards.register import SQL, CardKind, Known, Register
from engine.errors import (
    CardLackingError,
    CardOfferEndedError,
    CardSetEndedError,
    FieldProblem,
    InvalidFieldsError,
    NotSenderError,
    TooManyCardOffersError,
    UnknownCardOfferError,
)
from engine.ledger import idempotency
from engine.ledger.database import Connection, ledger_change, ledger_errors
from engine.ledger.money import now_ms
from engine.paging import NEWEST, parse

OPEN_MAX = 50
"""How many offers of a user can be open at once, of all sets."""
EXPIRED_AT_ONCE = 500
_SECONDS_MIN, _SECONDS_MAX = 60, 7 * 86_400
SECONDS_DEFAULT = 86_400


class OfferState(StrEnum):
    """``open -> accepted | declined | withdrawn | expired``. The last four are final."""

    OPEN = "open"  # the given card is put aside
    ACCEPTED = "accepted"  # both cards have moved
    DECLINED = "declined"  # this and the following: the given card is back
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class CardOffer:
    """An offer of the card ``give`` for the card ``want``. ``to_user`` None: anyone can accept it."""

    offer_id: str
    set_id: str
    from_user: str
    to_user: str | None
    give: int
    want: int
    state: OfferState
    made_at_ms: int
    expires_at_ms: int
    accepted_by: str | None
    ended_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardOffersPage:
    """Offers, newest first."""

    offers: list[CardOffer]
    next: str | None


class Offers:
    """Use cases of offers. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, register: Register) -> None:
        self._pool, self._register = pool, register

    async def make(
        self,
        set_id: str,
        user_id: str,
        *,
        give: int,
        want: int,
        to_user: str | None,
        seconds: int = SECONDS_DEFAULT,
        idempotency_key: str,
        request_hash: bytes,
    ) -> tuple[CardOffer, bool]:
        """Offer a card. Returns the offer as it was made, and whether it was answered before under this key.

        ``seconds``: how long it can be accepted, and not after the set's end. Raises UnknownCardSetError,
        InvalidFieldsError, CardSetEndedError, CardLackingError, TooManyCardOffersError, FrozenError, and as
        ``idempotency.once`` does.
        """
        known = await self._register.known(set_id)

        async def check() -> tuple[CardKind, CardKind]:
            kinds = _kinds(known, user_id, give, want, to_user=to_user, seconds=seconds)
            await moving.must_have_one(self._pool, known, user_id, kinds[0])
            await moving.can_hold(self._pool, user_id, kinds)
            return kinds

        async def work(connection: Connection, kinds: tuple[CardKind, CardKind]) -> dict[str, Any]:
            given, escrow = kinds[0], kinds[0].escrow_of(user_id)
            locked = await moving.lock(connection, [user_id], [given], [escrow])
            known.must_collect(locked.at_ms)
            payer = locked.must_hold(user_id, given)
            locked.must_be_free(user_id)
            if await connection.fetchval(SQL["open_offers"], user_id) >= OPEN_MAX:
                raise TooManyCardOffersError(f"The user has {OPEN_MAX} open offers: withdraw one first.")
            (number,) = await moving.move(connection, "card_offer", [(payer, escrow)], locked.at_ms)
            expires_at_ms = min(known.ends_at_ms, locked.at_ms + seconds * 1000)
            values = (known.number, user_id, to_user, give, want, escrow, locked.at_ms, expires_at_ms, number)
            offer_id = await connection.fetchval(SQL["add_offer"], *values)
            return {
                "offer_id": str(offer_id),
                "set_id": set_id,
                "from_user": user_id,
                "to_user": to_user,
                "give": give,
                "want": want,
                "state": OfferState.OPEN.value,
                "made_at_ms": locked.at_ms,
                "expires_at_ms": expires_at_ms,
                "accepted_by": None,
                "ended_at_ms": None,
            }

        request = idempotency.Request(
            principal=user_id, operation="card_offer", key=idempotency_key, request_hash=request_hash
        )
        answer, replayed, _ = await idempotency.once(self._pool, request, check=check, work=work)
        return CardOffer(**answer | {"state": OfferState(answer["state"])}), replayed

    async def get(self, offer_id: str, user_id: str | None, *, sees_all: bool = False) -> CardOffer:
        """An offer, for its two users, or for everybody if anyone can accept it (None: a user whom nobody names).

        Raises UnknownCardOfferError.
        """
        return _offer(await self._seen(offer_id, user_id, sees_all=sees_all))

    async def accept(self, offer_id: str, user_id: str) -> CardOffer:
        """Take the card that is offered and give the one that is wanted. A repeat by the same user changes nothing.

        Raises UnknownCardOfferError, InvalidFieldsError for an own offer, CardOfferEndedError, CardSetEndedError,
        CardLackingError, FrozenError.
        """
        row = await self._seen(offer_id, user_id)
        if row["from_user"] == user_id:
            raise InvalidFieldsError([FieldProblem("offer_id", "must be another user's offer")])
        known = await self._register.known(str(row["set_id"]))
        given, wanted = known.kind(row["give"]), known.kind(row["want"])
        if row["state"] == OfferState.OPEN:
            try:
                await moving.must_have_one(self._pool, known, user_id, wanted)
            except (CardLackingError, CardSetEndedError):
                row = await self._seen(offer_id, user_id)
                if row["state"] == OfferState.ACCEPTED and row["accepted_by"] == user_id:
                    return _offer(row)  # an earlier request, whose answer may have been lost, has just given the card
                raise
            await moving.can_hold(self._pool, user_id, [given])
        async with ledger_change(self._pool) as connection:
            row = (await connection.fetch(SQL["lock_offer"], int(offer_id)))[0]
            if row["state"] == OfferState.ACCEPTED and row["accepted_by"] == user_id:
                return _offer(row)
            at_ms = await _accept(connection, known, row, user_id, (given, wanted))
        return _offer(row, state=OfferState.ACCEPTED, accepted_by=user_id, ended_at_ms=at_ms)

    async def decline(self, offer_id: str, user_id: str) -> CardOffer:
        """Turn down an offer that was made to this user. A repeat changes nothing.

        Raises UnknownCardOfferError, NotSenderError, CardOfferEndedError.
        """
        row = await self._seen(offer_id, user_id)
        if row["to_user"] != user_id:
            raise NotSenderError("Only the user to whom an offer was made can decline it.")
        return await self._end(row, OfferState.DECLINED)

    async def withdraw(self, offer_id: str, user_id: str) -> CardOffer:
        """Take back an offer, also if its time is over. A repeat changes nothing.

        Raises UnknownCardOfferError, NotSenderError, CardOfferEndedError, FrozenError.
        """
        row = await self._seen(offer_id, user_id)
        if row["from_user"] != user_id:
            raise NotSenderError("Only the user who made an offer can withdraw it.")
        return await self._end(row, OfferState.WITHDRAWN)

    async def _end(self, seen: asyncpg.Record, state: OfferState) -> CardOffer:
        kind = (await self._register.known(str(seen["set_id"]))).kind(seen["give"])
        async with ledger_change(self._pool) as connection:
            row = (await connection.fetch(SQL["lock_offer"], seen["offer_id"]))[0]
            if row["state"] == state:
                return _offer(row)
            if row["state"] != OfferState.OPEN:
                raise CardOfferEndedError(f"The offer was {row['state']}.")
            locked = await moving.lock(connection, [row["from_user"]], [kind], [row["escrow_account"]])
            if state is OfferState.WITHDRAWN:
                locked.must_be_free(row["from_user"])
            back = (row["escrow_account"], locked.account(row["from_user"], kind))
            numbers = await moving.move(connection, "card_return", [back], locked.at_ms)
            await _ended(connection, [row["offer_id"]], numbers, state, locked.at_ms)
        return _offer(row, state=state, ended_at_ms=locked.at_ms)

    async def of_user(self, user_id: str, *, role: str, after: str | None, limit: int) -> CardOffersPage:
        """Offers that a user made or received, newest first. Raises InvalidFieldsError for an invalid cursor."""
        (below,) = parse(after, parts=1, start=(NEWEST,))
        query = SQL["offers_made"] if role == "made" else SQL["offers_received"]
        return await self._page(query, user_id, below, limit)

    async def for_anyone(self, set_id: str, *, after: str | None, limit: int) -> CardOffersPage:
        """The open offers of a set that anyone can accept. Raises UnknownCardSetError, InvalidFieldsError."""
        (below,) = parse(after, parts=1, start=(NEWEST,))
        known = await self._register.known(set_id)
        return await self._page(SQL["offers_for_anyone"], known.number, below, limit)

    async def _page(self, query: str, of: str | int, below: int, limit: int) -> CardOffersPage:
        with ledger_errors():
            rows = await self._pool.fetch(query, of, below, limit + 1)
        offers = [_offer(row) for row in rows[:limit]]
        return CardOffersPage(offers=offers, next=offers[-1].offer_id if len(rows) > limit else None)

    async def _seen(self, offer_id: str, user_id: str | None, *, sees_all: bool = False) -> asyncpg.Record:
        with ledger_errors(is_undone=True):
            row = await self._pool.fetchrow(SQL["offer"], int(offer_id))
        if row is None or not (sees_all or row["to_user"] in (None, user_id) or row["from_user"] == user_id):
            raise UnknownCardOfferError("No offer that this user can see has this number.")
        return row


def _kinds(
    known: Known, user_id: str, give: int, want: int, *, to_user: str | None, seconds: int
) -> tuple[CardKind, CardKind]:
    given, wanted = known.kind(give, "give"), known.kind(want, "want")
    problems = []
    if give == want:
        problems.append(FieldProblem("want", "must be another card than `give`"))
    if to_user == user_id:
        problems.append(FieldProblem("to_user", "must be another user"))
    if not _SECONDS_MIN <= seconds <= _SECONDS_MAX:
        problems.append(FieldProblem("seconds", f"must be from {_SECONDS_MIN} to {_SECONDS_MAX}"))
    if problems:
        raise InvalidFieldsError(problems)
    return given, wanted


async def _accept(
    connection: Connection, known: Known, row: asyncpg.Record, user_id: str, kinds: tuple[CardKind, CardKind]
) -> int:
    """Move both cards of an offer that is locked. Returns the time."""
    given, wanted = kinds
    if row["state"] != OfferState.OPEN:
        raise CardOfferEndedError(f"The offer was {row['state']}.")
    locked = await moving.lock(connection, [row["from_user"], user_id], kinds, [row["escrow_account"]])
    known.must_collect(locked.at_ms)
    if locked.at_ms >= row["expires_at_ms"]:
        raise CardOfferEndedError("The offer's time is over.")
    for trader in (user_id, row["from_user"]):
        locked.must_be_free(trader)
        await moving.must_receive(connection, trader, locked.at_ms)
    payer = locked.must_hold(user_id, wanted)
    taken = (row["escrow_account"], locked.account(user_id, given))
    numbers = await moving.move(connection, "card_exchange", [taken], locked.at_ms)
    paid = (payer, locked.account(row["from_user"], wanted))
    (other,) = await moving.move(connection, "card_gift", [paid], locked.at_ms)
    await _ended(
        connection, [row["offer_id"]], numbers, OfferState.ACCEPTED, locked.at_ms, accepted_by=user_id, other=other
    )
    return locked.at_ms


async def _ended(
    connection: Connection,
    offers: Sequence[int],
    numbers: Sequence[int],
    state: OfferState,
    at_ms: int,
    *,
    accepted_by: str | None = None,
    other: int | None = None,
) -> None:
    """Note the end of offers. ``numbers``: the entries by which the offered cards went out of escrow."""
    await connection.execute(SQL["end_offers"], list(offers), list(numbers), state.value, at_ms, accepted_by, other)


async def expire(pool: asyncpg.Pool) -> bool:
    """Give back the cards of offers whose time is over, some at once. Returns whether there may be more.

    Raises asyncpg's errors.
    """
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(SQL["offers_run_out"], EXPIRED_AT_ONCE)
        if rows:
            numbers = {row[name] for row in rows for name in ("escrow_account", "holding")}
            await connection.fetch(SQL["lock_accounts"], [], [], list(numbers))
            at_ms = await now_ms(connection)
            moves = [(row["escrow_account"], row["holding"]) for row in rows]
            entries = await moving.move(connection, "card_return", moves, at_ms)
            await _ended(connection, [row["offer_id"] for row in rows], entries, OfferState.EXPIRED, at_ms)
    return len(rows) == EXPIRED_AT_ONCE


def _offer(row: asyncpg.Record, **changed: Any) -> CardOffer:  # noqa: ANN401  # its fields' values
    values = {
        "offer_id": str(row["offer_id"]),
        "set_id": str(row["set_id"]),
        "state": OfferState(row["state"]),
    } | {
        name: row[name]
        for name in (
            "from_user",
            "to_user",
            "give",
            "want",
            "made_at_ms",
            "expires_at_ms",
            "accepted_by",
            "ended_at_ms",
        )
    }
    return CardOffer(**values | changed)
