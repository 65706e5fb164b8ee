"""How users get cards and spend them: gifts, grants that a backend asks for, and complete sets."""

from dataclasses import dataclass
from typing import Any

import asyncpg

from engine.cards import moving
from engine.cards.draws import draw_key, granted_card
from engine.cards.register import SQL, CardKind, Known, Register
from engine.errors import (
    AlreadyCompletedError,
    CardLackingError,
    CardSetEndedError,
    FieldProblem,
    InvalidFieldsError,
    ReserveEmptyError,
    TooManyGrantsError,
)
from engine.ledger import idempotency
from engine.ledger.database import Connection, ledger_errors
from engine.ledger.money import now_ms
from engine.wallets.assets import hold


@dataclass(frozen=True, slots=True, kw_only=True)
class CardGift:
    """A card that was given. ``left``: how many of it the giver has afterwards."""

    set_id: str
    card: int
    to_user: str
    transfer_id: str
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CardGrant:
    """A card that was drawn for a user. ``number``: which grant of the set it is."""

    set_id: str
    number: int
    user_id: str
    card: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A complete set that was spent. ``wild``: how many wild cards stood for others."""

    set_id: str
    user_id: str
    wild: int
    completed_at_ms: int


class Collecting:
    """Use cases of users who collect. Every method raises UnavailableError if Postgres does not answer.

    A repeat with the same Idempotency-Key gets the first answer, and whether it is one: all raise as
    ``idempotency.once`` does.
    """

    def __init__(self, pool: asyncpg.Pool, register: Register) -> None:
        self._pool, self._register = pool, register

    async def give(
        self, set_id: str, user_id: str, card: int, to_user: str, *, idempotency_key: str, request_hash: bytes
    ) -> tuple[CardGift, bool]:
        """Give a card to another user.

        Raises UnknownCardSetError, InvalidFieldsError, CardSetEndedError, CardLackingError, FrozenError.
        """
        known = await self._register.known(set_id)

        async def check() -> CardKind:
            kind = known.kind(card)
            if to_user == user_id:
                raise InvalidFieldsError([FieldProblem("to_user", "must be another user")])
            await moving.must_have_one(self._pool, known, user_id, kind)
            await moving.can_hold(self._pool, to_user, [kind])
            return kind

        async def work(connection: Connection, kind: CardKind) -> dict[str, Any]:
            locked = await moving.lock(connection, [user_id, to_user], [kind])
            known.must_collect(locked.at_ms)
            payer, left = locked.must_hold(user_id, kind), locked.count(user_id, kind) - 1
            locked.must_be_free(user_id)
            await moving.must_receive(connection, to_user, locked.at_ms)
            payee = locked.account(to_user, kind)
            (number,) = await moving.move(connection, "card_gift", [(payer, payee)], locked.at_ms)
            return {"set_id": set_id, "card": card, "to_user": to_user, "transfer_id": str(number), "left": left}

        request = idempotency.Request(
            principal=user_id, operation="card_gift", key=idempotency_key, request_hash=request_hash
        )
        answer, replayed, _ = await idempotency.once(self._pool, request, check=check, work=work)
        return CardGift(**answer), replayed

    async def grant(
        self, set_id: str, user_id: str, reason: str, *, idempotency_key: str, request_hash: bytes
    ) -> tuple[CardGrant, bool]:
        """Draw a card for a user of those that are set aside, each with the chance that its number gives it.

        Raises UnknownCardSetError, CardSetEndedError, TooManyGrantsError, ReserveEmptyError, FrozenError.
        """
        known = await self._register.known(set_id)

        async def check() -> None:
            with ledger_errors(is_undone=True):
                known.must_collect(await now_ms(self._pool))  # before an account is made
            await moving.can_hold(self._pool, user_id, [])

        async def work(connection: Connection, _: None) -> dict[str, Any]:
            return await _grant(connection, known, user_id, reason)

        request = idempotency.Request(
            principal=user_id, operation="card_grant", key=idempotency_key, request_hash=request_hash
        )
        answer, replayed, _ = await idempotency.once(self._pool, request, check=check, work=work)
        return CardGrant(**answer), replayed

    async def complete(
        self, set_id: str, user_id: str, *, idempotency_key: str, request_hash: bytes
    ) -> tuple[Completion, bool]:
        """Spend one of each card, or a wild card for each that is missing. The user then has a part in the pool, once.

        Raises UnknownCardSetError, CardSetEndedError, CardLackingError, AlreadyCompletedError, FrozenError.
        """
        known = await self._register.known(set_id)

        async def check() -> None:
            """Nothing is checked outside the transaction."""

        async def work(connection: Connection, _: None) -> dict[str, Any]:
            return await _complete(connection, known, user_id)

        request = idempotency.Request(
            principal=user_id, operation="card_completion", key=idempotency_key, request_hash=request_hash
        )
        answer, replayed, _ = await idempotency.once(self._pool, request, check=check, work=work)
        return Completion(**answer), replayed


async def _grant(connection: Connection, known: Known, user_id: str, reason: str) -> dict[str, Any]:
    """All grants of a set take turns, because which card one is depends on those before it."""
    reserves = [kind.reserve_account for kind in known.kinds]
    locked = await moving.lock(connection, [user_id], [], reserves)
    known.must_collect(locked.at_ms)
    locked.must_be_free(user_id, gives=False)
    await moving.must_receive(connection, user_id, locked.at_ms)
    if await connection.fetchval(SQL["grants_of_user"], known.number, user_id) >= known.grants_a_user_max:
        raise TooManyGrantsError(f"The user has got {known.grants_a_user_max} grants of this set, and gets no more.")
    remaining = [locked.rows[account]["balance_fen"] for account in reserves]
    if not any(remaining):
        raise ReserveEmptyError("No card is left that was set aside for grants.")
    number = sum(kind.granted_count for kind in known.kinds) - sum(remaining) + 1
    kind = known.kinds[granted_card(known.seed, known.set_id, number, remaining)]
    payee = await hold(connection, user_id, kind.asset)
    (transfer_id,) = await moving.move(connection, "card_grant", [(kind.reserve_account, payee)], locked.at_ms)
    await connection.execute(
        SQL["add_grant"], known.number, number, user_id, kind.card, reason, locked.at_ms, transfer_id
    )
    return {"set_id": known.set_id, "number": number, "user_id": user_id, "card": kind.card, "name": kind.name}


async def _complete(connection: Connection, known: Known, user_id: str) -> dict[str, Any]:
    """The set is held first: whoever closes it waits for this, or this finds it closed."""
    (row,) = await connection.fetch(SQL["lock_state"], known.number)
    if row["state"] != "collecting":  # whatever the clock says now
        raise CardSetEndedError("The set's completers have been counted.")
    spent = [kind.spent_of(user_id) for kind in known.kinds]
    locked = await moving.lock(connection, [user_id], known.kinds, spent)
    known.must_collect(locked.at_ms)
    locked.must_be_free(user_id, gives=False)
    missing = [kind for kind in known.cards if not locked.count(user_id, kind)]
    key = draw_key(known.seed, known.set_id, user_id)
    values = (known.number, user_id, key, len(missing), locked.at_ms)
    if not await connection.fetchval(SQL["add_completion"], *values):
        raise AlreadyCompletedError("The user has completed this set.")
    wild = known.wild
    if missing and (wild is None or locked.count(user_id, wild) < len(missing)):
        names = ", ".join(f"{kind.card} ({kind.name})" for kind in missing)
        raise CardLackingError(f"The user lacks these cards of the set: {names}.")
    used = [kind for kind in known.cards if kind not in missing] + [wild for _ in missing if wild is not None]
    moves = [(locked.must_hold(user_id, kind), kind.spent_of(user_id)) for kind in used]
    await moving.move(connection, "card_spend", moves, locked.at_ms)
    return {
        "set_id": known.set_id,
        "user_id": user_id,
        "wild": len(missing),
        "completed_at_ms": locked.at_ms,
    }
