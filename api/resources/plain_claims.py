"""Reads a plain batch of claims without an object per field. Most batches come from programs and are plain.

If a batch is not plain in any respect (an escape, a repeated name, an unknown field, a bad id), the payload's model
reads it, and accepts it or names what is wrong.
"""

import msgspec

from api.payloads import BATCH_CLAIMS_MAX
from engine.ids import are_user_ids, is_packet_number

_QUOTES_A_CLAIM, _QUOTES_AROUND = 8, 2


class PlainClaim(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One claim of a plain batch."""

    packet_id: str
    user_id: str


class PlainClaims(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A plain batch: the same fields as ``payloads.ClaimsBody``."""

    claims: list[PlainClaim]


_DECODER = msgspec.json.Decoder(PlainClaims)


def read(body: bytes) -> PlainClaims | None:
    """The batch, with every id checked, or None if it is not plain."""
    try:
        batch = _DECODER.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    claims = batch.claims
    # With exactly the quotes that the fields need and no escape, no object has a name twice.
    if b"\\" in body or body.count(b'"') != _QUOTES_A_CLAIM * len(claims) + _QUOTES_AROUND:
        return None
    if not 1 <= len(claims) <= BATCH_CLAIMS_MAX:
        return None
    if not all(map(is_packet_number, {claim.packet_id for claim in claims})):
        return None
    return batch if are_user_ids([claim.user_id for claim in claims]) else None
