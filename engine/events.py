"""A lane's events: what the scripts write to the stream, read back as records.

An entry's ID is ``<position>-0``, where position counts the changes the lane has ever emitted, this entry's included;
so an entry of n changes must follow one whose position is n less, and a gap shows itself.
"""

from typing import NamedTuple

import msgspec

from engine.errors import HongbaoError
from engine.records import PacketState

VERSION = 1


class UnreadableEventError(HongbaoError):
    """An entry of the stream is not an event this release knows; the lane must not go past it."""

    code = "unreadable_event"


class PacketClaims(msgspec.Struct, array_like=True, frozen=True):
    """The shares one call gave of one packet: ``shares[i]``, "slot:amount_fen", went to ``users[i]``."""

    packet_id: str
    users: list[str]
    shares: list[str]
    exhausted: bool


class ClaimsEvent(msgspec.Struct, array_like=True, frozen=True, tag="claims"):
    """Shares given by one call of claim.lua; one change each."""

    version: int
    at_ms: int
    packets: list[PacketClaims]

    @property
    def changes(self) -> int:
        """How many changes the event carries."""
        return sum(len(packet.users) for packet in self.packets)


class OpenedEvent(msgspec.Struct, array_like=True, frozen=True, tag="opened"):
    """A packet can be claimed from now on."""

    version: int
    at_ms: int
    packet_id: str

    changes = 1


class ClosedEvent(msgspec.Struct, array_like=True, frozen=True, tag="closed"):
    """A packet ended with shares left; they go back to its sender."""

    version: int
    at_ms: int
    packet_id: str
    reason: PacketState
    remaining_count: int
    remaining_fen: int

    changes = 1


Event = ClaimsEvent | OpenedEvent | ClosedEvent
_DECODER: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


class Claim(NamedTuple):
    """One share given. ``position`` is this change's own."""

    packet: int
    user_id: str
    slot: int
    amount_fen: int
    at_ms: int
    position: int


class Opening(NamedTuple):
    """A packet went from funded to open."""

    packet: int
    at_ms: int
    position: int


class Ending(NamedTuple):
    """A packet went from open to ``state``. Only a closing is a change of its own; exhaustion is the last claim's."""

    packet: int
    state: PacketState
    remaining_count: int
    remaining_fen: int
    at_ms: int
    position: int


Change = Claim | Opening | Ending


def decode(payload: bytes) -> Event:
    """Read one entry. Raises UnreadableEventError for anything but an event of this version."""
    try:
        event = _DECODER.decode(payload)
    except msgspec.MsgspecError as error:
        raise UnreadableEventError(f"An event cannot be read: {error}.") from None
    if event.version != VERSION:
        raise UnreadableEventError(f"An event has version {event.version}; this release knows {VERSION}.")
    return event


def changes_of(event: Event, position: int) -> list[Change]:
    """The changes of an entry whose ID says ``position``, in order. Raises UnreadableEventError."""
    try:
        return _changes(event, position)
    except ValueError as error:
        raise UnreadableEventError(f"The event at {position} cannot be read: {error}.") from None


def _changes(event: Event, position: int) -> list[Change]:
    if isinstance(event, OpenedEvent):
        return [Opening(int(event.packet_id), event.at_ms, position)]
    if isinstance(event, ClosedEvent):
        packet = int(event.packet_id)
        return [Ending(packet, event.reason, event.remaining_count, event.remaining_fen, event.at_ms, position)]
    changes: list[Change] = []
    at_ms, place = event.at_ms, position - event.changes
    for claimed in event.packets:
        packet = int(claimed.packet_id)
        for user_id, share in zip(claimed.users, claimed.shares, strict=True):
            slot, _, amount_fen = share.partition(":")
            place += 1
            changes.append(Claim(packet, user_id, int(slot), int(amount_fen), at_ms, place))
        if claimed.exhausted:
            changes.append(Ending(packet, PacketState.EXHAUSTED, 0, 0, at_ms, place))
    return changes
