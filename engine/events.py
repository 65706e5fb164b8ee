"""A lane's events: what the scripts write to the stream, read back as records.

An entry's ID is ``<position>-0``, where position counts the changes the lane has ever emitted, this entry's included;
so an entry of n changes must follow one whose position is n less, and a gap shows itself.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from engine.errors import HongbaoError
from engine.records import PacketState

VERSION = 1
_COUNT_MAX, _NUMBER_MAX = 2**31 - 1, 2**53 - 1
"""What Postgres and Lua can hold."""


class UnreadableEventError(HongbaoError):
    """An entry of the stream is not an event this release knows; the lane must not go past it."""

    code = "unreadable_event"


class NewerEventError(UnreadableEventError):
    """An event of a newer release: nothing is wrong with it, and an upgrade reads it."""

    code = "newer_event"


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
_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What the decoder raises: of text that is no UTF-8 Python's own error, and of what is nested too deeply."""
_DECODER: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


class Claims(NamedTuple):
    """Shares of one packet, given by one call: share ``i`` went to ``user_ids[i]``.

    In columns, because the ledger writes them by the ten thousand. ``position`` is the last one's own; the others' are
    the ones before it.
    """

    packet: int
    user_ids: Sequence[str]
    slots: Sequence[int]
    amounts_fen: Sequence[int]
    at_ms: int
    position: int

    def halves(self) -> tuple["Claims", "Claims"]:
        """The same claims as two; of at least two."""
        middle = len(self.slots) // 2
        first = (self.user_ids[:middle], self.slots[:middle], self.amounts_fen[:middle])
        second = (self.user_ids[middle:], self.slots[middle:], self.amounts_fen[middle:])
        before = self.position - len(second[0])
        return Claims(self.packet, *first, self.at_ms, before), Claims(self.packet, *second, self.at_ms, self.position)


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


Change = Claims | Opening | Ending


class Unreadable(NamedTuple):
    """Changes that a lane has counted and nobody knows: their event cannot be read, and Redis does not show them."""

    changes: int
    reason: str
    at_ms: int
    position: int


def decode(payload: bytes) -> Event:
    """Read one entry. Raises UnreadableEventError for anything but an event of this version, perhaps a newer one."""
    try:
        event = _DECODER.decode(payload)
    except _UNDECODABLE as error:
        _refuse_newer(_version(payload))
        raise UnreadableEventError(f"An event cannot be read: {error}.") from None
    _refuse_newer(event.version)
    if event.version != VERSION:
        raise UnreadableEventError(f"An event has version {event.version}; this release knows {VERSION}.")
    return event


def _version(payload: bytes) -> int:
    """What the second word says, where all versions have theirs; 0 if there is none."""
    try:
        words = msgspec.msgpack.decode(payload)
    except _UNDECODABLE:
        return 0
    is_event = isinstance(words, list) and len(words) > 1 and isinstance(words[0], str)
    return words[1] if is_event and type(words[1]) is int else 0


def _refuse_newer(version: int) -> None:
    if version > VERSION:
        raise NewerEventError(f"An event has version {version}; this release knows {VERSION}.")


def changes_of(event: Event, position: int) -> list[Change]:
    """The changes of an entry whose ID says ``position``, in order. Raises UnreadableEventError."""
    try:
        return _changes(event, position)
    except ValueError as error:
        raise UnreadableEventError(f"The event at {position} cannot be read: {error}.") from None


def _changes(event: Event, position: int) -> list[Change]:
    if not 0 <= event.at_ms <= _NUMBER_MAX:
        raise ValueError("its time is out of range")
    if isinstance(event, OpenedEvent):
        return [Opening(int(event.packet_id), event.at_ms, position)]
    if isinstance(event, ClosedEvent):
        if event.reason not in (PacketState.EXPIRED, PacketState.RETRACTED):
            raise ValueError(f"nothing is closed because it is {event.reason.value}")
        _check_ranges([event.remaining_count], [event.remaining_fen])
        remaining = (event.remaining_count, event.remaining_fen)
        return [Ending(int(event.packet_id), event.reason, *remaining, event.at_ms, position)]
    changes: list[Change] = []
    place = position - event.changes
    for claimed in event.packets:
        packet = int(claimed.packet_id)
        place += len(claimed.users)
        # Of one string, and by C loops alone: a comprehension over shares takes several times as long.
        numbers = list(map(int, ":".join(claimed.shares).split(":")))
        slots, amounts_fen = numbers[::2], numbers[1::2]
        if not len(slots) == len(amounts_fen) == len(claimed.users) == len(claimed.shares):
            raise ValueError("users and shares do not match")
        _check_ranges(slots, amounts_fen)
        changes.append(Claims(packet, claimed.users, slots, amounts_fen, event.at_ms, place))
        if claimed.exhausted:
            changes.append(Ending(packet, PacketState.EXHAUSTED, 0, 0, event.at_ms, place))
    return changes


def _check_ranges(counts: Sequence[int], amounts_fen: Sequence[int]) -> None:
    """What no column could hold is unreadable. Whether the values are true, the rules of the ledger say."""
    if min(counts) < -_COUNT_MAX or max(counts) > _COUNT_MAX:
        raise ValueError("a share's number is out of range")
    if min(amounts_fen) < -_NUMBER_MAX or max(amounts_fen) > _NUMBER_MAX:
        raise ValueError("an amount is out of range")
