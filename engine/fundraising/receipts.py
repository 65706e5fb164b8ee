"""A receipt for one gift, from the ledger, for its giver: what was given, and what has become of it.

docs/fundraising.md says what the hash covers, so that anyone can compute it again.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson

from engine.errors import UnknownFundraiserError, UnknownGiftError
from engine.fundraising.terms import Mode
from engine.fundraising.views import GiftState, state_of_gift
from engine.ledger.currency import SCALE, currency_of
from engine.ledger.database import Connection, ledger_errors
from engine.queries import load
from engine.wallets.receipts import snapshot

SQL = load("fundraising")
_HASHED_FIRST = b"hongbao gift receipt 1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class GiftEntry:
    """One ledger entry behind a receipt."""

    transfer_id: str
    kind: str
    amount_fen: int
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GiftFacts:
    """A receipt's facts. Amounts are 10^-scale of ``currency``. ``packet_id``: the packet whose share it was.

    ``state``: whether the fund holds it, the beneficiary has it, or it is back. ``settled_at_ms``: since when.
    ``transfers``: the giver's own entries; ``payout_transfer_id``: the entry that paid all gifts to the beneficiary.
    """

    gift_id: str
    fundraiser_id: str
    title: str
    mode: Mode
    beneficiary: str
    giver: str
    is_anonymous: bool
    message: str
    amount_fen: int
    matched_fen: int
    currency: str
    scale: int
    packet_id: str | None
    given_at_ms: int
    state: GiftState
    settled_at_ms: int | None
    payout_transfer_id: str | None
    transfers: list[GiftEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class GiftReceipt:
    """The facts, and their SHA-256 in hexadecimal digits."""

    facts: GiftFacts
    hash: str


class GiftReceipts:
    """Use cases of receipts. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def of(self, fundraiser_id: str, gift_id: str, user_id: str | None, *, sees_all: bool) -> GiftReceipt:
        """The receipt of a gift, for its giver or for a caller that ``sees_all``.

        Raises UnknownFundraiserError, UnknownGiftError also if it is somebody else's.
        """
        with ledger_errors():
            async with self._pool.acquire() as connection, snapshot(connection):
                facts = await facts_of(connection, fundraiser_id, gift_id)
                if facts is None and await connection.fetchrow(SQL["fundraiser"], int(fundraiser_id)) is None:
                    raise UnknownFundraiserError("No fundraiser has this number.")
        if facts is None or not (sees_all or facts.giver == user_id):
            raise UnknownGiftError("No gift that you can see has this number.")
        return GiftReceipt(facts=facts, hash=hash_of(as_json(facts)))


async def facts_of(connection: Connection, fundraiser_id: str, gift_id: str) -> GiftFacts | None:
    """A gift's facts, or None if the fundraiser has no such gift. Raises asyncpg's errors."""
    row = await connection.fetchrow(SQL["gift"], int(fundraiser_id), int(gift_id))
    if row is None:
        return None
    numbers = [number for number in (row["transfer_id"], row["return_transfer_id"]) if number is not None]
    return _facts(row, await connection.fetch(SQL["entries"], numbers), await currency_of(connection))


def _facts(row: asyncpg.Record, moved: list[asyncpg.Record], currency: str) -> GiftFacts:
    state = state_of_gift(row)
    settled_at_ms = {
        GiftState.HELD: None,
        GiftState.PAID_OUT: row["settled_at_ms"],
        GiftState.RETURNED: moved[-1]["at_ms"],
    }[state]
    payout = row["payout_transfer_id"]
    return GiftFacts(
        gift_id=str(row["gift_id"]),
        fundraiser_id=str(row["fundraiser_id"]),
        title=row["title"],
        mode=Mode(row["mode"]),
        beneficiary=row["beneficiary"],
        giver=row["giver"],
        is_anonymous=row["is_anonymous"],
        message=row["message"],
        amount_fen=row["amount_fen"],
        matched_fen=row["matched_fen"],
        currency=currency,
        scale=SCALE,
        packet_id=None if row["packet_id"] is None else str(row["packet_id"]),
        given_at_ms=row["given_at_ms"],
        state=state,
        settled_at_ms=settled_at_ms,
        payout_transfer_id=None if payout is None else str(payout),
        transfers=[GiftEntry(**entry) for entry in moved],
    )


def as_json(facts: GiftFacts) -> dict[str, Any]:
    """The facts as in a receipt's JSON."""
    read: dict[str, Any] = orjson.loads(orjson.dumps(facts))
    return read


def hash_of(facts: Mapping[str, Any]) -> str:
    """SHA-256 over a first line and the facts as RFC 8785 writes them (docs/receipt.md), in hexadecimal digits."""
    return hashlib.sha256(_HASHED_FIRST + orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).hexdigest()
