"""电子回单: what the ledger says of one packet or transfer, to its sender or to one who has a share of it.

A receipt says only what is final: to the sender once the packet is settled, to a recipient once the claim is in the
ledger. docs/receipt.md says of what exactly the hash is, so that a stranger can make it again.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg
import orjson

from engine.errors import NotInLedgerError, NotSettledError, UnknownTransactionError
from engine.lanes.reader import LaneReader
from engine.ledger.currency import currency_of
from engine.ledger.database import Connection, ledger_errors
from engine.queries import load

SQL = load("receipts")
CLAIMS_MAX = 1_000
"""The claims of a packet that has more are counted and summed in its receipt, not listed."""
_HASHED_FIRST = b"hongbao receipt 1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptTransfer:
    """One movement of the ledger that a receipt rests on."""

    transfer_id: str
    kind: str
    amount_fen: int
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptFacts:
    """What a receipt says. ``role``: to whom; what the other one is told is None.

    ``currency``: what the amounts are hundredths of; empty in a receipt from before it was told.
    ``recipient``: whose share it is, or whom a transfer was for. ``at_ms``: when it was paid, or received.
    ``transfers``: in the order of the ledger; ``are_claims_listed`` is false where they are too many.
    """

    role: Literal["sent", "received"]
    number: str
    purpose: Literal["packet", "transfer"]
    sender: str
    recipient: str | None
    greeting: str
    at_ms: int
    received_fen: int | None
    paid_fen: int | None
    count: int | None
    claimed_count: int | None
    claimed_fen: int | None
    returned_fen: int | None
    written_off_fen: int | None
    state: str | None
    ended_at_ms: int | None
    settled_at_ms: int | None
    are_claims_listed: bool
    currency: str = ""
    transfers: list[ReceiptTransfer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The facts, and a SHA-256 of them in hexadecimal digits."""

    facts: ReceiptFacts
    hash: str


class Receipts:
    """Use cases over receipts. Every method raises UnavailableError when what it needs does not answer."""

    def __init__(self, pool: asyncpg.Pool, store: LaneReader) -> None:
        self._pool, self._store = pool, store

    async def of(self, number: str, user_id: str | None, *, sees_all: bool) -> Receipt:
        """The receipt of a packet or transfer for one user. A caller that ``sees_all`` gets what its sender gets.

        Raises UnknownTransactionError for whom it is no business of, NotSettledError for a sender whose packet has not
        ended, NotInLedgerError for a recipient of whose share the ledger has nothing (yet).
        """
        with ledger_errors():
            async with self._pool.acquire() as connection, snapshot(connection):
                row = await connection.fetchrow(SQL["packet"], int(number))
                if row is None:
                    raise UnknownTransactionError("No packet has this number.")
                if sees_all or user_id == row["sender"]:
                    facts = await sent_facts(connection, number)
                else:
                    facts = None if user_id is None else await received_facts(connection, number, user_id)
        if facts is not None:
            return Receipt(facts=facts, hash=hash_of(as_json(facts)))
        if sees_all or user_id == row["sender"]:
            raise NotSettledError("The sender's receipt is available once the packet has settled.")
        if user_id is not None and await self._is_party(number, user_id, row):
            raise NotInLedgerError("The ledger has no share of this packet for you (yet).")
        raise UnknownTransactionError("Somebody else's packet.")

    async def _is_party(self, number: str, user_id: str, row: asyncpg.Record) -> bool:
        """Whether somebody of whose share the ledger has nothing may know that the packet is there."""
        return user_id in row["recipients"] or await self._store.claim_of(number, user_id) is not None


def snapshot(connection: Connection) -> Any:  # noqa: ANN401  # asyncpg's transaction
    """A transaction in which everything is read at one moment."""
    return connection.transaction(isolation="repeatable_read", readonly=True)


async def sent_facts(connection: Connection, number: str) -> ReceiptFacts | None:
    """What a sender is told; None if the packet is not there or not settled."""
    row = await connection.fetchrow(SQL["packet"], int(number))
    if row is None or row["settled_at_ms"] is None:
        return None
    sums = await connection.fetchrow(SQL["sums"], int(number))
    if sums is None:
        raise AssertionError("a sum is always one row")
    are_listed = sums["claimed_count"] <= CLAIMS_MAX
    moved = await connection.fetch(SQL["transfers"], int(number), are_listed)
    return ReceiptFacts(
        role="sent",
        number=number,
        purpose=row["purpose"],
        sender=row["sender"],
        recipient=row["recipients"][0] if row["purpose"] == "transfer" else None,
        greeting=row["greeting"],
        at_ms=row["created_at_ms"],
        received_fen=None,
        count=row["count"],
        **sums,
        state=row["state"],
        ended_at_ms=row["ended_at_ms"],
        settled_at_ms=row["settled_at_ms"],
        are_claims_listed=are_listed,
        currency=await currency_of(connection),
        transfers=[ReceiptTransfer(**transfer) for transfer in moved],
    )


async def received_facts(connection: Connection, number: str, user_id: str) -> ReceiptFacts | None:
    """What somebody with a share is told; None if the ledger has none of theirs."""
    row = await connection.fetchrow(SQL["packet"], int(number))
    share = await connection.fetchrow(SQL["share"], int(number), user_id)
    if row is None or share is None:
        return None
    return ReceiptFacts(
        role="received",
        number=number,
        purpose=row["purpose"],
        sender=row["sender"],
        recipient=user_id,
        greeting=row["greeting"],
        at_ms=share["at_ms"],
        received_fen=share["amount_fen"],
        **dict.fromkeys(_OF_SENDERS),
        are_claims_listed=True,
        currency=await currency_of(connection),
        transfers=[ReceiptTransfer(**share)],
    )


_OF_SENDERS = (
    *("paid_fen", "count", "claimed_count", "claimed_fen", "returned_fen", "written_off_fen"),
    *("state", "ended_at_ms", "settled_at_ms"),
)


def as_json(facts: ReceiptFacts) -> dict[str, Any]:
    """The facts as they stand in a receipt's JSON."""
    read: dict[str, Any] = orjson.loads(orjson.dumps(facts))
    return read


def hash_of(facts: Mapping[str, Any]) -> str:
    """SHA-256 over a first line and the facts as RFC 8785 writes them, in hexadecimal digits.

    Facts are text, whole numbers, true, false and null alone, and names are ASCII: for these orjson writes what the
    RFC asks for.
    """
    return hashlib.sha256(_HASHED_FIRST + orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).hexdigest()
