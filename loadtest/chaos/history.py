"""What happened, in the order in which it ended: requests with their answers, faults, moments at which all was carried.

One JSON line each, appended to a file. Times (``*_s``) are seconds on one monotonic clock, from the start of the
history. ``status`` 0: there was no answer, and ``code`` says why; otherwise ``code`` is the problem's own, or empty.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

BYTES_MAX = 1_000_000_000
"""A history larger than this would be of no use to anybody: the guests leave when it is reached."""


class Asked(msgspec.Struct, kw_only=True, frozen=True, tag=True):
    """A request that is over."""

    asked_s: float
    answered_s: float
    status: int
    code: str = ""


class Claim(Asked, kw_only=True, frozen=True, tag=True):
    """One claim, asked for alone or with others. ``outcome`` is empty when the answer has none."""

    packet_id: str
    user_id: str
    outcome: str = ""
    amount_fen: int = 0


class Send(Asked, kw_only=True, frozen=True, tag=True):
    """A packet was to be sent. ``packet_id`` is empty when no answer named one."""

    sender: str
    key: str
    total_fen: int
    count: int
    recipients: tuple[str, ...] = ()
    packet_id: str = ""


class Deposit(Asked, kw_only=True, frozen=True, tag=True):
    """Money was to come in, once however often it is asked for with this key."""

    user_id: str
    key: str
    amount_fen: int


class Look(Asked, kw_only=True, frozen=True, tag=True):
    """A packet as it was shown."""

    packet_id: str
    state: str = ""
    claimed_count: int = 0
    claimed_fen: int = 0
    remaining_count: int = 0
    remaining_fen: int = 0


class Listed(Asked, kw_only=True, frozen=True, tag=True):
    """A packet's claims as they were listed: who has how much, in fen."""

    packet_id: str
    claims: tuple[tuple[str, int], ...] = ()


class Errand(Asked, kw_only=True, frozen=True, tag=True):
    """Anything else that a user does. ``number``: what it is about, or what the answer named.

    ``is_in_force``: of a freeze, whether it was said to hold everywhere.
    """

    what: str
    user_id: str
    number: str = ""
    is_in_force: bool = False


class Fault(msgspec.Struct, kw_only=True, frozen=True, tag=True):
    """What was done to the engine. ``undoes``: answers given before it may be taken back, as far as the mode says."""

    began_s: float
    ended_s: float
    kind: str
    target: str
    undoes: bool = False


class Carried(msgspec.Struct, kw_only=True, frozen=True, tag=True):
    """All that Redis had given at ``at_s`` was in the ledger."""

    at_s: float


Record = Claim | Send | Deposit | Look | Listed | Errand | Fault | Carried


class History:
    """The writing side; used as ``with History(path) as history``."""

    def __init__(self, path: Path, *, bytes_max: int = BYTES_MAX) -> None:
        self.path = path
        self._bytes_left = bytes_max
        self._encoder = msgspec.json.Encoder()
        self._started_s = time.monotonic()

    def __enter__(self) -> Self:
        """Begin a new file."""
        self._file = self.path.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Everything is in the file."""
        self._file.close()

    def now_s(self) -> float:
        """The clock of this history."""
        return round(time.monotonic() - self._started_s, 6)

    @property
    def is_full(self) -> bool:
        """Whether nobody should do anything more that is worth adding."""
        return self._bytes_left <= 0

    def flush(self) -> None:
        """What was added can be read."""
        self._file.flush()

    def add(self, record: Record) -> None:
        """Append one."""
        line = self._encoder.encode(record) + b"\n"
        self._bytes_left -= len(line)
        self._file.write(line)


class Recorded:
    """The records of a file, in order, as often as they are asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[Record]:
        """From the first."""
        decoder = msgspec.json.Decoder(Record)
        with self._path.open("rb") as lines:
            for line in lines:
                yield decoder.decode(line)
