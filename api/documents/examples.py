"""Examples of bodies and answers for the OpenAPI document: readers see a whole one, and mock servers return it.

They are made from the schemas, so a new field has its example at once: its value goes by its name. A test holds each
to its schema.
"""

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

_BY_NAME: dict[str, object] = {
    "ack": "fsync",
    "address": "192.0.2.0/24",
    "addresses": "192.0.2.0/24",
    "admission": "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl",
    "amounts_fen": 100,
    "arrives_after_s": 7_200,
    "asset": "POINTS",
    "bank_account": "6222020200112233",
    "card": 1,
    "claim_seconds": 86_400,
    "code": "Q7XK-2MPD",
    "codes": "Q7XK-2MPD",
    "commitment": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "confirm_within_s": 86_400,
    "count": 10,
    "coupon_id": "1-1",
    "currency": "CNY",
    "day": "2027-02-06",
    "evidence": "They said that it was for a friend.",
    "give": 1,
    "granted_count": 5,
    "greeting": "恭喜发财",
    "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "kind": "claim",
    "label": "family",
    "message": "加油",
    "name": "春节红包雨",
    "next": "9000",
    "note": "order 1024",
    "number": "1000000000000000001",
    "packet_id": "1000000000000000001",
    "payment_password": "135790",
    "password": "135790",
    "current_password": "246802",
    "percent": 100,
    "reason": "as the user asked",
    "scale": 2,
    "seconds": 60,
    "seed": "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
    "slot": 0,
    "story": "A library for the school.",
    "sub": "alice",
    "text": "恭喜发财",
    "title": "A library for the school",
    "total_fen": 1_000,
    "transaction_fen_max": 500_000,
    "want": 2,
    "wave": 1,
    "wins": 1,
}
"""The example of a field with this name, or of each entry of a list with this name."""
_USERS = ("user_id", "to", "to_user", "beneficiary", "recipients", "guests", "counterparty", "accepted_by", "recipient")
_BY_UNIT: dict[str, object] = {"_ms": 1_802_002_800_000, "_fen": 100, "_s": 60, "_max": 1_000, "_id": "1"}
_SHOWN = {
    "AssetBody": (),
    "FaceBody": ("off_fen",),
    "GiftBody": ("amount_fen", "message"),
    "PacketBody": ("greeting",),
    "PaymentPasswordBody": ("current_password",),
    "ProfileBody": ("addresses", "day_sent_fen_max"),
    "RetractionBody": ("confirm",),
    "CouponEndBody": ("note",),
}
"""Fields of bodies that examples show though they may be left out."""
_LATER_MS = 60_000
"""An end is shown after its beginning."""


def example_of(schema: Json, schemas: Mapping[str, Json], *, is_body: bool = False) -> object:
    """An example of what a schema describes. Of a body, only the required fields and those named above."""
    return _of(schema, schemas, "", is_body=is_body)


def _of(schema: Json, schemas: Mapping[str, Json], name: str, *, is_body: bool) -> object:
    if "$ref" in schema:
        model = schema["$ref"].rpartition("/")[2]
        found = schemas[model]
        return _record(found, schemas, model, is_body=is_body) if "properties" in found else _plain(found, name)
    for option in schema.get("anyOf", ()):
        if option.get("type") != "null":
            return _of({**schema, **option, "anyOf": ()}, schemas, name, is_body=is_body)
    if schema.get("type") == "array":
        return [_of(schema["items"], schemas, name, is_body=is_body)] * schema.get("minItems", 1)
    if schema.get("type") == "object":
        return {}
    return _plain(schema, name)


def _record(schema: Json, schemas: Mapping[str, Json], model: str, *, is_body: bool) -> Json:
    names = schema["properties"]
    if is_body:
        names = [name for name in names if name in schema.get("required", []) or name in _SHOWN.get(model, ())]
    return {name: _of(schema["properties"][name], schemas, name, is_body=is_body) for name in names}


def _plain(schema: Json, name: str) -> object:
    """A value that is neither a record nor a list."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    found = _named(name, kind)
    if kind == "boolean":
        return True
    if kind == "integer":
        number = found if isinstance(found, int) else 1
        return max(min(number, schema.get("maximum", number)), schema.get("minimum", number))
    return found if isinstance(found, str) else "alice"


def _named(name: str, kind: object) -> object:
    if name in _USERS:
        return "bob"
    if name in ("valid_until_ms", "ends_at_ms", "draws_at_ms", "expires_at_ms", "until_ms"):
        return _BY_UNIT["_ms"] + _LATER_MS  # type: ignore[operator]  # it is a number
    found = _BY_NAME.get(name)
    if found is not None and isinstance(found, str) == (kind == "string"):
        return found
    return next((value for unit, value in _BY_UNIT.items() if name.endswith(unit)), None)
