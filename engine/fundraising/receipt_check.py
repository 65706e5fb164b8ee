"""Compares a gift's receipt with the ledger: computes its hash again, and looks up each of its facts."""

import json
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.errors import OperatorError
from engine.fundraising.receipts import GiftFacts, as_json, facts_of, hash_of
from engine.ledger.database import Connection
from engine.text import read_json
from engine.wallets.receipt_check import FILE_BYTES_MAX, differences
from engine.wallets.receipts import snapshot


@dataclass(frozen=True, slots=True)
class Shown:
    """A receipt as it was presented. ``text``: its facts as written. ``made``: the hash of these facts."""

    facts: GiftFacts
    text: dict[str, Any]
    hash: str
    made: str


def is_of_gift(text: bytes) -> bool:
    """Whether a receipt is that of a gift."""
    try:
        value = json.loads(text[: FILE_BYTES_MAX + 1])
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and isinstance(value.get("facts"), dict) and "gift_id" in value["facts"]


def read(text: bytes) -> Shown:
    """Read a receipt as the server returns it. Raises OperatorError that names what is wrong."""
    try:
        value = read_json(text)
        found = Shown(
            msgspec.convert(value["facts"], GiftFacts), value["facts"], str(value["hash"]), hash_of(value["facts"])
        )
        numbers = (int(found.facts.fundraiser_id), int(found.facts.gift_id))
    except (ValueError, KeyError, TypeError, RecursionError, msgspec.ValidationError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise OperatorError(f"This is not a receipt of a gift: {what}.") from None
    if value.keys() != {"facts", "hash"} or not all(0 < number < 2**63 for number in numbers):
        raise OperatorError(
            "This is not a receipt of a gift: it has `facts` with two numbers and `hash`, nothing else."
        )
    return found


async def check(connection: Connection, shown: Shown) -> list[str]:
    """What is wrong with a receipt, one sentence each. Empty if the ledger agrees. Raises asyncpg's errors.

    One that was made while the gift was held differs from the ledger once it was paid out or returned.
    """
    problems = []
    if shown.made != shown.hash:
        problems.append(f"its hash is {shown.hash[:64]!r}, that of its facts is {shown.made}")
    async with snapshot(connection):
        held = await facts_of(connection, shown.facts.fundraiser_id, shown.facts.gift_id)
    if held is None:
        return [*problems, "the ledger has no such gift"]
    return problems + differences(shown.text, as_json(held))
