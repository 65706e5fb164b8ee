"""A lane's events: what the scripts write to the stream, read back as records.

An entry's ID is ``<position>-0``. The position counts all changes that the lane has ever emitted, including this
entry's. So an entry with n changes must follow one whose position is n less, and a gap is visible.
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import msgspec

from engine.errors import HongbaoError
from engine.records import PacketState

VERSION = 1
_DIGITS = b"-0123456789"
_COUNT_MAX, _NUMBER_MAX = 2**31 - 1, 2**53 - 1
"""The largest number that both Postgres and Lua can hold."""


class UnreadableEventError(HongbaoError):
    """A stream entry is not an event of this release. The lane must not go past it."""

    code = "unreadable_event"


class NewerEventError(UnreadableEventError):
    """A correct event of a newer release. After an upgrade it can be read."""

    code = "newer_event"


class PacketClaims(msgspec.Struct, array_like=True, frozen=True):
    """The shares of one packet that one call gave: ``shares[i]``, "slot:amount_fen", went to ``users[i]``."""

    packet_id: str
    users: list[str]
    shares: list[str]
    exhausted: bool


class ClaimsEvent(msgspec.Struct, array_like=True, frozen=True, tag="claims"):
    """Shares given by one call of claim.lua. Each is one change."""

    version: int
    at_ms: int
    packets: list[PacketClaims]

    @property
    def changes(self) -> int:
        """How many changes the event carries."""
        return sum([len(packet.users) for packet in self.packets])


class OpenedEvent(msgspec.Struct, array_like=True, frozen=True, tag="opened"):
    """A packet can be claimed from now on."""

    version: int
    at_ms: int
    packet_id: str

    changes = 1


class ClosedEvent(msgspec.Struct, array_like=True, frozen=True, tag="closed"):
    """A packet ended with unclaimed shares. Its sender gets them back."""

    version: int
    at_ms: int
    packet_id: str
    reason: PacketState
    remaining_count: int
    remaining_fen: int

    changes = 1


Event = ClaimsEvent | OpenedEvent | ClosedEvent
_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""The decoder's errors. If a text is not UTF-8 or is nested too deeply, it raises Python's own errors."""
_DECODER: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


class Claims(NamedTuple):
    """Shares of one packet, given by one call: share ``i`` went to ``user_ids[i]``.

    They are in columns, because the ledger writes them by the ten thousand. ``position`` is the last claim's; the
    others have the positions before it.
    """

    packet: int
    user_ids: Sequence[str]
    slots: Sequence[int]
    amounts_fen: Sequence[int]
    at_ms: int
    position: int

    def halves(self) -> tuple["Claims", "Claims"]:
        """The same claims in two parts. There must be at least two."""
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
    """A packet went from open to ``state``. Exhaustion is part of the last claim's change; a closing is a change."""

    packet: int
    state: PacketState
    remaining_count: int
    remaining_fen: int
    at_ms: int
    position: int


Change = Claims | Opening | Ending


class Unreadable(NamedTuple):
    """Counted changes that are unknown: their event cannot be read, and Redis does not show them."""

    changes: int
    reason: str
    at_ms: int
    position: int


def decode(payload: bytes) -> Event:
    """Read one entry. Raises UnreadableEventError unless it is an event of this version."""
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
    """The version, which is the second word in every version. 0 if there is none."""
    try:
        words = msgspec.msgpack.decode(payload)
    except _UNDECODABLE:
        return 0
    is_event = isinstance(words, list) and len(words) > 1 and isinstance(words[0], str)
    return words[1] if is_event and type(words[1]) is int else 0


def _refuse_newer(version: int) -> None:
    if version > VERSION:
        raise NewerEventError(f"An event has version {version}; this release knows {VERSION}.")


def packet_ids_in(event: Event) -> list[str]:
    """The packets that the event names, as it spells them."""
    return [packet.packet_id for packet in event.packets] if isinstance(event, ClaimsEvent) else [event.packet_id]


def changes_of(event: Event, position: int) -> list[Change]:
    """The changes of the entry at ``position``, in order. Raises UnreadableEventError."""
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
    return _claims(event, position)


def _claims(event: ClaimsEvent, position: int) -> list[Change]:
    """Of a claims event. All its shares go through one pass of loops in C: it may name a packet for each of them."""
    packets = event.packets
    sizes = [len(claimed.users) for claimed in packets]
    if 0 in sizes or sizes != [len(claimed.shares) for claimed in packets]:
        raise ValueError("users and shares do not match")
    shares = list(chain.from_iterable([claimed.shares for claimed in packets]))
    if not shares:
        return []
    text = ",".join(shares)
    if text.encode("ascii", "replace").translate(None, _DIGITS) != (b":," * len(shares))[:-1]:
        raise ValueError("a share is not a number and an amount")
    numbers = list(map(int, text.replace(":", ",").split(",")))
    slots, amounts_fen = numbers[::2], numbers[1::2]
    _check_ranges(slots, amounts_fen)
    changes: list[Change] = []
    first, before = 0, position - len(shares)
    for claimed, size in zip(packets, sizes, strict=True):
        packet, end = int(claimed.packet_id), first + size
        changes.append(
            Claims(packet, claimed.users, slots[first:end], amounts_fen[first:end], event.at_ms, before + end)
        )
        if claimed.exhausted:
            changes.append(Ending(packet, PacketState.EXHAUSTED, 0, 0, event.at_ms, before + end))
        first = end
    return changes


def _check_ranges(counts: Sequence[int], amounts_fen: Sequence[int]) -> None:
    """Refuse values that no column can hold. The ledger's rules check whether the values are true."""
    if min(counts) < -_COUNT_MAX or max(counts) > _COUNT_MAX:
        raise ValueError("a share's number is out of range")
    if min(amounts_fen) < -_NUMBER_MAX or max(amounts_fen) > _NUMBER_MAX:
        raise ValueError("an amount is out of range")
