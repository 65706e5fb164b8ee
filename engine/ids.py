"""The form of packet numbers and user ids.

A lane is a partition: all its Redis keys share one hash tag, so a lane is always in one slot. A packet's number
names its lane. So a claim is routed without a lookup, and lanes can be added later for new packets. It also names the
volume of the ledger that has its claims (``engine.ledger.volumes``).
"""

import re
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:  # who only knows the numbers' form loads no numpy
    import numpy as np
    from numpy.typing import NDArray

NUMBER_LENGTH = 19
_RANDOM_DIGITS = 14
_SPECIAL, _CAMPAIGN, _COUPONS = "9999", "99999", "99998"
"""The first random digits of packets whose claims need more than the script: those of campaigns, which nobody may claim
past the campaign, and those of coupons (claiming/claims.py)."""
FIRST_VOLUME, LAST_VOLUME = 10, 91
"""The volume is what a number begins with. The last is the last that fits 64 bits."""
NUMBER_PATTERN = r"(?:[1-8][0-9]|9[01])[0-9]{17}"
NUMBER_RULE = f"must have {NUMBER_LENGTH} digits and begin with {FIRST_VOLUME} to {LAST_VOLUME}"
_PAST_LAST_VOLUME = str(LAST_VOLUME + 1)
_LANES = {f"{lane:03d}": lane for lane in range(1_000)}


def new_packet_number(
    lane: int, volume: int = FIRST_VOLUME, *, in_campaign: bool = False, of_coupons: bool = False
) -> str:
    """A new 19-digit number: two digits of the ledger's volume, three of the lane, 14 random ones.

    ``in_campaign``: it is a part of a campaign's pool, which the random digits then tell. ``of_coupons``: its shares
    are coupons, which they tell of all but a campaign's. Only Postgres makes sure it is unique.
    """
    begins = _CAMPAIGN if in_campaign else _COUPONS if of_coupons else ""
    digits = _RANDOM_DIGITS - len(begins)
    below = 10**digits if begins else int(_SPECIAL) * 10 ** (digits - len(_SPECIAL))
    return f"{volume}{lane:03d}{begins}{secrets.randbelow(below):0{digits}d}"


def may_be_special(packet_id: str) -> bool:
    """Whether a packet may be of a campaign or of coupons. Of those from before these, one in 10,000 is of neither."""
    return packet_id[5:9] == _SPECIAL


def may_be_in_campaign(packet_id: str) -> bool:
    """Whether a packet may be a part of a campaign's pool. One in 100,000 from before campaigns is none."""
    return packet_id[5:10] == _CAMPAIGN


@overload
def may_be_of_coupons(packet_id: int) -> bool: ...
@overload
def may_be_of_coupons(packet_id: "NDArray[np.int64]") -> "NDArray[np.bool_]": ...
def may_be_of_coupons(packet_id: "int | NDArray[np.int64]") -> "bool | NDArray[np.bool_]":
    """Whether the ledger may have numbers of coupons for a packet's shares, in a campaign or not."""
    return packet_id // 10**10 % 10_000 == int(_SPECIAL)


def is_packet_number(text: str) -> bool:
    """Whether ``text`` has the form of a packet number (it may still be unknown)."""
    # The same as NUMBER_PATTERN in a third of the time, because it runs once per claim.
    return len(text) == NUMBER_LENGTH and "1" <= text < _PAST_LAST_VOLUME and text.isdigit() and text.isascii()


def are_packet_numbers(texts: Sequence[str]) -> bool:
    """Whether each of ``texts`` has the form of a packet number. There must be at least one."""
    if set(map(len, texts)) != {NUMBER_LENGTH} or min(texts) < "1" or max(texts) >= _PAST_LAST_VOLUME:
        return False
    together = "".join(texts)
    return together.isdigit() and together.isascii()


def lane_of(packet_id: str) -> int:
    """The lane in a packet number."""
    return _LANES[packet_id[2:5]]  # a third of the time of int(), because it runs twice per claim


USER_ID_PATTERN = (
    r"(?:[A-Za-z0-9_:@-][A-Za-z0-9._:@-]{0,63}|\.[A-Za-z0-9_:@-][A-Za-z0-9._:@-]{0,62}|\.\.[A-Za-z0-9._:@-]{1,62})"
)
"""Neither ``.`` nor ``..``: clients and proxies remove these from a path, and the rest names another resource."""
USER_ID_RULE = "must be 1 to 64 of A-Z a-z 0-9 . _ : @ -, and neither . nor .."
_USER_ID = re.compile(USER_ID_PATTERN, re.ASCII)


def is_user_id(text: str) -> bool:
    """Whether ``text`` can name a user."""
    return _USER_ID.fullmatch(text) is not None


_USER_ID_BYTES = bytes(byte for byte in range(256) if is_user_id(f"u{chr(byte)}"))
_DOTS = frozenset((b".", b"..", ".", ".."))
_USER_ID_LENGTH_MAX = 64


def user_id_in(text: bytes) -> str | None:
    """The user id in ``text``, or None if it is not one. Like ``is_user_id``, but for raw bytes, and faster."""
    if text.translate(None, _USER_ID_BYTES) or not 0 < len(text) <= _USER_ID_LENGTH_MAX or text in _DOTS:
        return None
    return text.decode("ascii")


def are_user_ids(texts: Sequence[str]) -> bool:
    """Whether each of ``texts`` can name a user. There must be at least one."""
    lengths = set(map(len, texts))
    if min(lengths) == 0 or max(lengths) > _USER_ID_LENGTH_MAX or (min(lengths) <= 2 and not _DOTS.isdisjoint(texts)):
        return False
    together = "".join(texts)
    return together.isascii() and not together.encode("ascii").translate(None, _USER_ID_BYTES)
