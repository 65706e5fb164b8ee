"""Shares that are claimed: each completer's, once, until the deadline."""

from dataclasses import dataclass
from typing import Any

import asyncpg

from engine.cards import moving
from engine.cards.register import SQL, Known, Register
from engine.errors import NoPrizeError, NotDrawnError
from engine.ledger import idempotency
from engine.ledger.database import Connection
from engine.ledger.money import move


@dataclass(frozen=True, slots=True, kw_only=True)
class Prize:
    """A completer's share of the pool, in their wallet. ``number``: their place in the order of the draw, from 0."""

    set_id: str
    user_id: str
    number: int
    share_fen: int
    paid_at_ms: int
    transfer_id: str


class Prizes:
    """Use cases of completers. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, register: Register) -> None:
        self._pool, self._register = pool, register

    async def claim(
        self, set_id: str, user_id: str, *, idempotency_key: str, request_hash: bytes
    ) -> tuple[Prize, bool]:
        """Take the user's share. If it was paid before, nothing moves. Returns whether this key was answered before.

        Raises UnknownCardSetError, NotDrawnError, NoPrizeError, FrozenError, and as ``idempotency.once`` does.
        """
        known = await self._register.known(set_id)

        async def check() -> None:
            """Nothing is checked outside the transaction."""

        async def work(connection: Connection, _: None) -> dict[str, Any]:
            return await _claim(connection, known, user_id)

        request = idempotency.Request(
            principal=user_id, operation="card_prize", key=idempotency_key, request_hash=request_hash
        )
        answer, replayed, _ = await idempotency.once(self._pool, request, check=check, work=work)
        return Prize(**answer), replayed


async def _claim(connection: Connection, known: Known, user_id: str) -> dict[str, Any]:
    """The set is held first: whoever gives the rest back to its owner waits for this, or this finds it settled."""
    (row,) = await connection.fetch(SQL["lock_state"], known.number)
    if row["state"] in ("collecting", "drawing"):
        raise NotDrawnError("The pool has not been drawn yet.")
    share = await connection.fetchrow(SQL["lock_share"], known.number, user_id)
    if share is None:
        raise NoPrizeError("The user has not completed the set, so they have no share of its pool.")
    transfer_id, at_ms = share["transfer_id"], share["paid_at_ms"]
    if transfer_id is None:
        locked = await moving.lock(connection, [user_id], [], [known.pool_account])
        at_ms = locked.at_ms
        if row["state"] == "settled" or at_ms >= row["drawn_at_ms"] + (known.claim_seconds or 0) * 1000:
            raise NoPrizeError("The share was not claimed in time, and has gone back to the set's owner.")
        locked.must_be_free(user_id, gives=False)
        transfer_id = await move(
            connection,
            "pool_share",
            payer=known.pool_account,
            payee=locked.wallet(user_id)["account_id"],
            amount_fen=share["share_fen"],
            at_ms=at_ms,
        )
        if transfer_id is None:
            raise AssertionError("the pool holds every share that is not paid")
        await connection.execute(SQL["note_paid"], known.number, user_id, transfer_id, at_ms)
    return {
        "set_id": known.set_id,
        "user_id": user_id,
        "number": share["number"],
        "share_fen": share["share_fen"],
        "paid_at_ms": at_ms,
        "transfer_id": str(transfer_id),
    }
