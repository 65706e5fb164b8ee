"""Compares a receipt with the ledger: computes its hash again, and looks up each of its facts."""

import dataclasses
import json
from collections.abc import Collection
from typing import Any

import msgspec

from engine.errors import OperatorError
from engine.ids import is_packet_number, is_user_id
from engine.ledger.currency import currency_of
from engine.ledger.database import Connection
from engine.text import read_json
from engine.wallets.receipts import ReceiptFacts, as_json, hash_of, received_facts, sent_facts, snapshot

FILE_BYTES_MAX = 16_777_216
_NAMES = {"facts", "hash"}
_LATER = ("currency", "scale")
"""Facts that older receipts lack. All of those are of the ledger's currency."""
_SHOWN_MAX = 200


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """A receipt as it was presented. ``text``: its facts as written. ``made``: the hash of these facts."""

    facts: ReceiptFacts
    text: dict[str, Any]
    hash: str
    made: str


def is_receipt(text: bytes) -> bool:
    """Whether a file looks like a receipt (and not like a packet's proof)."""
    try:
        value = json.loads(text[: FILE_BYTES_MAX + 1])
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and "facts" in value


def read(text: bytes) -> Shown:
    """Read a receipt as the server returns it. Raises OperatorError that names what is missing."""
    if len(text) > FILE_BYTES_MAX:
        raise OperatorError(f"A receipt has at most {FILE_BYTES_MAX} bytes.")
    try:
        value = read_json(text)
        # Unknown names are also in the hash, so an added one is found.
        facts = msgspec.convert(value["facts"], ReceiptFacts)
        found = Shown(facts, value["facts"], str(value["hash"]), hash_of(value["facts"]))
    except (ValueError, KeyError, TypeError, RecursionError, msgspec.ValidationError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise OperatorError(f"This is not a receipt: {what}.") from None
    if value.keys() != _NAMES:
        raise OperatorError("This is not a receipt: it has `facts` and `hash`, and nothing else.")
    if not is_packet_number(facts.number):
        raise OperatorError("This is not a receipt: `number` is not the number of a packet or transfer.")
    return found


async def check(connection: Connection, shown: Shown) -> list[str]:
    """What is wrong with a receipt, one sentence each. Empty if the ledger agrees. Raises asyncpg's errors."""
    problems = []
    if shown.made != shown.hash:
        problems.append(f"its hash is {_cut(shown.hash)}, that of its facts is {shown.made}")
    facts = shown.facts
    async with snapshot(connection):
        currency = await currency_of(connection)
        if facts.role == "sent":
            held, otherwise = await sent_facts(connection, facts.number), "no settled packet or transfer of this number"
        else:
            user_id = facts.recipient or ""
            held = await received_facts(connection, facts.number, user_id) if is_user_id(user_id) else None
            otherwise = f"no share of {_cut(facts.recipient)} in it"
    if held is None:
        return [*problems, f"the ledger has {otherwise}"]
    return problems + differences(shown.text, as_json(held), may_lack=_LATER if held.currency == currency else ())


def differences(told: dict[str, Any], held: dict[str, Any], *, may_lack: Collection[str] = ()) -> list[str]:
    """One sentence per fact that is not as the ledger has it. ``may_lack``: facts that a receipt need not have."""
    problems = []
    for name in [*held, *sorted(told.keys() - held.keys())]:
        if name not in held:
            problems.append(f"{_cut(name)} is not a fact of a receipt")
        elif name not in told:
            if name not in may_lack:
                problems.append(f"{name} is {_cut(held[name])} in the ledger, and the receipt does not have it")
        elif name == "transfers":
            problems += _different_transfers(told[name], held[name])
        elif type(told[name]) is not type(held[name]) or told[name] != held[name]:
            problems.append(f"{name} is {_cut(told[name])} in the receipt, {_cut(held[name])} in the ledger")
    return problems


def _different_transfers(told: list[dict[str, Any]], held: list[dict[str, Any]]) -> list[str]:
    problems = []
    if len(told) != len(held):
        problems.append(f"the receipt lists {len(told)} ledger entries, the ledger has {len(held)}")
    for shown, kept in zip(told, held, strict=False):
        if json.dumps(shown, sort_keys=True) != json.dumps(kept, sort_keys=True):
            problems.append(f"entry {_cut(shown)} is {_cut(kept)} in the ledger")
    return problems


def _cut(value: object) -> str:
    """A value, shortened for a sentence."""
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."
