"""电子回单: a receipt of one packet or transfer from the ledger, for its sender or a user with a share.

A receipt contains only final facts: a sender gets it once the packet is settled, a recipient once the claim is in the
ledger. docs/receipt.md says exactly what the hash covers, so that anyone can compute it again.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg
import orjson

from engine.errors import NotInLedgerError, NotSettledError, UnknownTransactionError
from engine.lanes.reader import LaneReader
from engine.ledger.currency import SCALE, currency_of
from engine.ledger.database import Connection, ledger_errors
from engine.queries import load

SQL = load("receipts")
CLAIMS_MAX = 1_000
"""If a packet has more claims, its receipt has their number and sum instead of a list."""
_HASHED_FIRST = b"hongbao receipt 1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptTransfer:
    """One ledger entry behind a receipt."""

    transfer_id: str
    kind: str
    amount_fen: int
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptFacts:
    """A receipt's facts. ``role``: the reader's role. Facts for the other role are None.

    ``currency``: the amounts are 10^-scale of it; it may be any asset. Empty in receipts that are older than this fact.
    ``recipient``: the share's owner, or a transfer's recipient. ``at_ms``: when it was paid, or received.
    ``transfers``: in the ledger's order. ``are_claims_listed`` is false if there are too many.
    """

    role: Literal["sent", "received"]
    number: str
    purpose: Literal["packet", "transfer", "campaign"]
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
    scale: int = SCALE
    transfers: list[ReceiptTransfer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The facts, and their SHA-256 in hexadecimal digits."""

    facts: ReceiptFacts
    hash: str


class Receipts:
    """Use cases of receipts. Every method raises UnavailableError if a server that it needs does not answer."""

    def __init__(self, pool: asyncpg.Pool, store: LaneReader) -> None:
        self._pool, self._store = pool, store

    async def of(self, number: str, user_id: str | None, *, sees_all: bool) -> Receipt:
        """The receipt of a packet or transfer for one user. A caller that ``sees_all`` gets the sender's receipt.

        Raises UnknownTransactionError if the user is no party to it, NotSettledError for a sender whose packet has not
        settled, NotInLedgerError for a recipient whose share is not in the ledger (yet).
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
        """Whether a user without a share in the ledger may learn that the packet exists."""
        return user_id in row["recipients"] or await self._store.claim_of(number, user_id) is not None


def snapshot(connection: Connection) -> Any:  # noqa: ANN401  # asyncpg's transaction
    """A transaction that reads everything as of one moment."""
    return connection.transaction(isolation="repeatable_read", readonly=True)


async def sent_facts(connection: Connection, number: str) -> ReceiptFacts | None:
    """A sender's facts, or None if the packet does not exist or is not settled."""
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
        currency=row["asset"] or await currency_of(connection),
        scale=SCALE if row["asset"] is None else row["scale"],
        transfers=[ReceiptTransfer(**transfer) for transfer in moved],
    )


async def received_facts(connection: Connection, number: str, user_id: str) -> ReceiptFacts | None:
    """A recipient's facts, or None if the ledger has no share of theirs."""
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
        currency=row["asset"] or await currency_of(connection),
        scale=SCALE if row["asset"] is None else row["scale"],
        transfers=[ReceiptTransfer(**share)],
    )


_OF_SENDERS = (
    *("paid_fen", "count", "claimed_count", "claimed_fen", "returned_fen", "written_off_fen"),
    *("state", "ended_at_ms", "settled_at_ms"),
)


def as_json(facts: ReceiptFacts) -> dict[str, Any]:
    """The facts as in a receipt's JSON."""
    read: dict[str, Any] = orjson.loads(orjson.dumps(facts))
    return read


def hash_of(facts: Mapping[str, Any]) -> str:
    """SHA-256 over a first line and the facts as RFC 8785 writes them, in hexadecimal digits.

    Facts are only texts, whole numbers, true, false and null, and names are ASCII. For these, orjson's output follows
    the RFC.
    """
    return hashlib.sha256(_HASHED_FIRST + orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).hexdigest()
