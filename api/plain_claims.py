"""Reading a batch of claims that is plain, without an object a field: most batches come from programs and are.

What is not plain in any respect (an escape, a repeated name, an unknown field, a bad id) is left to the model of the
payload, which takes it or names what is wrong with it.
"""

import re

import msgspec

from api.payloads import BATCH_CLAIMS_MAX
from engine.lanes import NUMBER_PATTERN
from engine.users import USER_ID_PATTERN

_QUOTES_A_CLAIM, _QUOTES_AROUND = 8, 2
_PACKET_IDS = re.compile(rf"(?:{NUMBER_PATTERN}\n)*", re.ASCII)
_USER_IDS = re.compile(rf"(?:{USER_ID_PATTERN}\n)*", re.ASCII)


class PlainClaim(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One claim of a plain batch."""

    packet_id: str
    user_id: str


class PlainClaims(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A plain batch: the same fields as ``payloads.ClaimsBody``."""

    claims: list[PlainClaim]


_DECODER = msgspec.json.Decoder(PlainClaims)


def read(body: bytes) -> PlainClaims | None:
    """The batch, every id checked; None when it is not plain."""
    try:
        batch = _DECODER.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    claims = batch.claims
    # As many quotes as the fields need and no escape: no name stands twice in any object.
    if b"\\" in body or body.count(b'"') != _QUOTES_A_CLAIM * len(claims) + _QUOTES_AROUND:
        return None
    if not 1 <= len(claims) <= BATCH_CLAIMS_MAX:
        return None
    packet_ids = "".join([f"{claim.packet_id}\n" for claim in claims])
    user_ids = "".join([f"{claim.user_id}\n" for claim in claims])
    return batch if _PACKET_IDS.fullmatch(packet_ids) and _USER_IDS.fullmatch(user_ids) else None
