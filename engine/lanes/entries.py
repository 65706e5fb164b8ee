"""One entry of a lane's stream: an event in its place, or a bad entry.

The lane's scripts number their entries ``<position>-0``, with one event each, and count them. Any other entry in the
stream is bad: no reader goes past it before an operator has set it aside.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

from engine.events import (
    Change,
    ClaimsEvent,
    Event,
    NewerEventError,
    UnreadableEventError,
    changes_of,
    decode,
    packet_ids_in,
)
from engine.ids import are_packet_numbers, lane_of

_WHY_LENGTH_MAX = 300
_USER_LENGTH_MAX = 255


class Raw(NamedTuple):
    """An entry as Redis stores it."""

    entry_id: str
    fields: dict[bytes, bytes]


class Entry(NamedTuple):
    """One event; ``position`` counts the lane's changes up to and including it."""

    position: int
    event: Event
    changes: list[Change]


class BadEntryError(UnreadableEventError):
    """An entry that is no event of the lane, or of a newer release. ``why``: a sentence."""

    code = "bad_entry"

    def __init__(self, lane: int, entry_id: str, why: str, *, is_newer: bool = False) -> None:
        super().__init__(f"Lane {lane} has a bad entry at {entry_id} of its stream: {why}")
        self.lane, self.entry_id, self.why, self.is_newer = lane, entry_id, why, is_newer


class Look(NamedTuple):
    """The state of a stream's two ends.

    ``oldest``: the first entry that the ledger does not have. ``bad``: what is wrong with it, or with the last entry.
    ``refuses``: no script can write to the stream. ``stale``: the cause of that has been removed.
    """

    oldest: Entry | None = None
    bad: BadEntryError | None = None
    refuses: bool = False
    stale: bool = False
    is_stream: bool = True

    @classmethod
    def of_another_type(cls) -> "Look":
        """The state if the key is not a stream."""
        return cls(refuses=True, is_stream=False)

    @property
    def is_broken(self) -> bool:
        """Whether an operator must act."""
        return self.bad is not None or self.refuses


def id_of(entry_id: str) -> tuple[int, int]:
    """An ID as two numbers, by which Redis sorts."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)


def name_of(numbers: tuple[int, int]) -> str:
    """The ID with these two numbers."""
    return f"{numbers[0]}-{numbers[1]}"


def entry_in(lane: int, raw: Raw) -> Entry:
    """Read one entry. Raises BadEntryError."""
    position, sequence = id_of(raw.entry_id)
    if sequence:
        raise BadEntryError(lane, raw.entry_id, "An event's ID ends in -0.")
    try:
        event = decode(raw.fields.get(b"event", b""))
        changes = changes_of(event, position)
    except UnreadableEventError as error:
        is_newer = isinstance(error, NewerEventError)
        raise BadEntryError(lane, raw.entry_id, _short(str(error)), is_newer=is_newer) from None
    packets = packet_ids_in(event)
    if packets and not (are_packet_numbers(packets) and set(map(lane_of, packets)) == {lane}):
        raise BadEntryError(lane, raw.entry_id, "Its packet does not belong to this lane.")
    if isinstance(event, ClaimsEvent) and packets and not _can_be_kept([packet.users for packet in event.packets]):
        raise BadEntryError(lane, raw.entry_id, "It names a user id that no wallet can have.")
    return Entry(position, event, changes)


def uncounted(lane: int, entry_id: str, position: int) -> BadEntryError:
    """The error for an entry beyond the lane's position."""
    return BadEntryError(lane, entry_id, f"The lane has emitted {position} changes: it did not write this.")


def look_in(
    lane: int, position: int | None, *, first: list[Raw], top_id: tuple[int, int], last_id: tuple[int, int]
) -> Look:
    """Judge a stream's two ends. ``position``: the lane's, if it has one. ``last_id``: the last ID ever used."""
    oldest: Entry | None = None
    bad: BadEntryError | None = None
    refuses = position is not None and last_id >= (position + 1, 0)
    try:
        oldest = entry_in(lane, first[0]) if first else None
    except BadEntryError as error:
        bad = error
    if bad is None and position is not None and top_id > (position, 0):
        is_first = oldest is not None and oldest.position > position
        bad = uncounted(lane, first[0].entry_id if is_first else name_of(top_id), position)
        oldest = None if is_first else oldest
    if bad is None and refuses:
        was = "An entry further than the lane has counted was there and was removed: Redis takes none before it."
        return Look(oldest, BadEntryError(lane, name_of(last_id), was), refuses=True, stale=True)
    return Look(oldest, bad, refuses)


def _can_be_kept(user_ids: Iterable[Sequence[str]]) -> bool:
    """Whether Postgres can store them: it allows no NUL in texts, and no long texts in an index."""
    texts = list(chain.from_iterable(user_ids))
    return "\0" not in "".join(texts) and max(map(len, texts)) <= _USER_LENGTH_MAX


def _short(text: str) -> str:
    """A text of bounded length: an error may quote what it found."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:_WHY_LENGTH_MAX]
