"""Lanes and packet numbers.

A lane is a partition: all its Redis keys share one hash tag, so a lane always lives in one slot. A packet's number
names its lane, so a claim is routed without a lookup and lanes can be added later for new packets.
"""

import secrets

NUMBER_PREFIX = "10"
NUMBER_LENGTH = 19
_RANDOM_DIGITS = 14
NUMBER_PATTERN = r"10\d{17}"


def new_packet_number(lane: int) -> str:
    """A fresh 19-digit number: "10", three digits of lane, 14 random digits. Unique only once Postgres has taken it."""
    return f"{NUMBER_PREFIX}{lane:03d}{secrets.randbelow(10**_RANDOM_DIGITS):0{_RANDOM_DIGITS}d}"


def is_packet_number(text: str) -> bool:
    """Whether ``text`` has the form of a packet number (it may still be unknown)."""
    # As NUMBER_PATTERN says, in a third of the time; it is asked once a claim.
    return len(text) == NUMBER_LENGTH and text.startswith(NUMBER_PREFIX) and text.isdigit() and text.isascii()


def lane_of(packet_id: str) -> int:
    """The lane a packet number names."""
    return int(packet_id[2:5])
