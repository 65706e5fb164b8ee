"""The form of packet numbers and user ids.

A lane is a partition: all its Redis keys share one hash tag, so a lane is always in one slot. A packet's number
names its lane. So a claim is routed without a lookup, and lanes can be added later for new packets. It also names the
volume of the ledger that has its claims (``engine.ledger.volumes``).
"""

import re
import secrets
from collections.abc import Sequence

NUMBER_LENGTH = 19
_RANDOM_DIGITS = 14
_CAMPAIGN, _CAMPAIGN_DIGITS = "99999", 9
"""The first random digits of a campaign's packets: nobody may claim them past the campaign (claiming/claims.py)."""
FIRST_VOLUME, LAST_VOLUME = 10, 91
"""The volume is what a number begins with. The last is the last that fits 64 bits."""
NUMBER_PATTERN = r"(?:[1-8][0-9]|9[01])[0-9]{17}"
NUMBER_RULE = f"must have {NUMBER_LENGTH} digits and begin with {FIRST_VOLUME} to {LAST_VOLUME}"
_PAST_LAST_VOLUME = str(LAST_VOLUME + 1)
_LANES = {f"{lane:03d}": lane for lane in range(1_000)}


def new_packet_number(lane: int, volume: int = FIRST_VOLUME, *, in_campaign: bool = False) -> str:
    """A new 19-digit number: two digits of the ledger's volume, three of the lane, 14 random ones.

    ``in_campaign``: it is a part of a campaign's pool, which the random digits then tell. Only Postgres makes sure it
    is unique.
    """
    if in_campaign:
        drawn = f"{_CAMPAIGN}{secrets.randbelow(10**_CAMPAIGN_DIGITS):0{_CAMPAIGN_DIGITS}d}"
    else:
        drawn = f"{secrets.randbelow(int(_CAMPAIGN) * 10**_CAMPAIGN_DIGITS):0{_RANDOM_DIGITS}d}"
    return f"{volume}{lane:03d}{drawn}"


def may_be_in_campaign(packet_id: str) -> bool:
    """Whether a packet may be a part of a campaign's pool. One in 100,000 from before campaigns is none."""
    return packet_id[5:10] == _CAMPAIGN


def is_packet_number(text: str) -> bool:
    """Whether ``text`` has the form of a packet number (it may still be unknown)."""
    # The same as NUMBER_PATTERN in a third of the time, because it runs once per claim.
    return len(text) == NUMBER_LENGTH and "1" <= text < _PAST_LAST_VOLUME and text.isdigit() and text.isascii()


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
