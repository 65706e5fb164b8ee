"""The names of all Redis keys. No other module spells one.

Every key of a lane carries the lane's hash tag, so a script that touches one lane never crosses cluster slots.
"""

from functools import lru_cache
from typing import NamedTuple

from redis.crc import key_slot

from engine.ids import lane_of

_LANES_MAX, _PACKETS_MAX = 1_000, 4_096
"""How many names are kept: they are needed again with nearly every claim."""


def tag(lane: int) -> str:
    """The lane's hash tag, braces included."""
    return f"{{hongbao:{lane:03d}}}"


def slot(lane: int) -> int:
    """The lane's slot of a Redis Cluster's 16,384: that of its hash tag."""
    return key_slot(tag(lane).encode())


def lane(number: int) -> str:
    """Hash: epoch, position (changes ever emitted), applied (those the ledger has committed).

    And frozen (present if any user is), frozen_version (the last change to these users), limited_until_ms (after it
    nobody is limited), limited_version (the last change to those).
    """
    return f"{tag(number)}:lane"


def events(number: int) -> str:
    """Stream of the lane's changes; an entry's ID is ``<position after it>-0``."""
    return f"{tag(number)}:events"


def due(number: int) -> str:
    """Sorted set: packet -> when the sweeper must look at it: expires_at_ms, or a transfer's arrives_at_ms."""
    return f"{tag(number)}:due"


def frozen(number: int) -> str:
    """Set of the users who may not claim in the lane. Absent if there are none."""
    return f"{tag(number)}:frozen"


def limited(number: int) -> str:
    """Hash: user -> the time in ms until which they have received as much as they may; 0: they may claim again."""
    return f"{tag(number)}:limited"


def packet(packet_id: str) -> str:
    """Hash: state, count, total_fen, expires_at_ms, remaining_count, remaining_fen, luckiest_share, ..."""
    return f"{tag(lane_of(packet_id))}:packet:{packet_id}"


def shares(packet_id: str) -> str:
    """List of the unclaimed shares, "slot:amount_fen", in the order in which they are given."""
    return f"{tag(lane_of(packet_id))}:shares:{packet_id}"


def claims(packet_id: str) -> str:
    """Hash: user -> "slot:amount_fen:claimed_at_ms"."""
    return f"{tag(lane_of(packet_id))}:claims:{packet_id}"


def recipients(packet_id: str) -> str:
    """Set of the users who may claim a packet. Absent if anyone may."""
    return f"{tag(lane_of(packet_id))}:recipients:{packet_id}"


@lru_cache(maxsize=_LANES_MAX)
def claimed_in(lane: int) -> tuple[str, str, str, str]:
    """A lane's keys as claim.lua takes them after the lane's own: events, due, frozen, limited."""
    return events(lane), due(lane), frozen(lane), limited(lane)


@lru_cache(maxsize=_PACKETS_MAX)
def all_of(packet_id: str) -> tuple[str, str, str, str]:
    """A packet's four keys in claim.lua's order: packet, shares, claims, recipients."""
    lane_tag = tag(lane_of(packet_id))
    return (
        f"{lane_tag}:packet:{packet_id}",
        f"{lane_tag}:shares:{packet_id}",
        f"{lane_tag}:claims:{packet_id}",
        f"{lane_tag}:recipients:{packet_id}",
    )


def kept_of(packet_id: str) -> tuple[str, str, str]:
    """The keys of a packet that are there after its end, in forget.lua's order: packet, claims, recipients."""
    of_packet, _, of_claims, of_recipients = all_of(packet_id)
    return of_packet, of_claims, of_recipients


class TrialKeys(NamedTuple):
    """The keys of ``engine.lanes.trial``: a lane that never exists in the ledger, with one packet."""

    lane: str
    events: str
    due: str
    frozen: str
    limited: str
    packet: str
    shares: str
    claims: str
    recipients: str


def trial(number: int | None) -> TrialKeys:
    """The trial's keys: in a lane's own slot of a cluster or, with None, under a tag of their own."""
    prefix = "{hongbao:trial}" if number is None else f"{tag(number)}:trial"
    return TrialKeys(*(f"{prefix}:{name}" for name in TrialKeys._fields))
