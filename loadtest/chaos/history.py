"""What happened, in the order of ending: requests with answers, faults, and moments at which the ledger had everything.

Each record is one JSON line, appended to a file. Times (``*_s``) are seconds on one monotonic clock, from the start of
the history. ``status`` 0: there was no answer, and ``code`` says why. Otherwise ``code`` is the problem's, or empty.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

BYTES_MAX = 1_000_000_000
"""A larger history would be useless: the guests leave when it is reached."""


class Asked(msgspec.Struct, kw_only=True, frozen=True, tag=True):
    """A request that has ended."""

    asked_s: float
    answered_s: float
    status: int
    code: str = ""


class Claim(Asked, kw_only=True, frozen=True, tag=True):
    """One claim, alone or in a batch. ``outcome`` is empty if the answer has none."""

    packet_id: str
    user_id: str
    outcome: str = ""
    amount_fen: int = 0


class Tap(Asked, kw_only=True, frozen=True, tag=True):
    """One grab in a campaign, alone or in a batch. ``shares``: what was told, as packet and fen."""

    campaign_id: str
    user_id: str
    outcome: str = ""
    shares: tuple[tuple[str, int], ...] = ()


class Send(Asked, kw_only=True, frozen=True, tag=True):
    """A request to send a packet. ``packet_id`` is empty if no answer named one."""

    sender: str
    key: str
    total_fen: int
    count: int
    recipients: tuple[str, ...] = ()
    packet_id: str = ""


class Deposit(Asked, kw_only=True, frozen=True, tag=True):
    """A request for a deposit. It is made once per key, however often it is requested."""

    user_id: str
    key: str
    amount_fen: int


class Look(Asked, kw_only=True, frozen=True, tag=True):
    """A packet as the API showed it."""

    packet_id: str
    state: str = ""
    claimed_count: int = 0
    claimed_fen: int = 0
    remaining_count: int = 0
    remaining_fen: int = 0


class Listed(Asked, kw_only=True, frozen=True, tag=True):
    """A packet's claims as the API listed them: user -> fen."""

    packet_id: str
    claims: tuple[tuple[str, int], ...] = ()


class Errand(Asked, kw_only=True, frozen=True, tag=True):
    """Any other action of a user. ``number``: its subject, or the number in the answer.

    ``is_in_force``: for a freeze, whether the answer said that it is in force everywhere.
    """

    what: str
    user_id: str
    number: str = ""
    is_in_force: bool = False


class Fault(msgspec.Struct, kw_only=True, frozen=True, tag=True):
    """A fault in the engine. ``undoes``: earlier answers may be undone, as far as the mode allows."""

    began_s: float
    ended_s: float
    kind: str
    target: str
    undoes: bool = False


class Struck(msgspec.Struct, kw_only=True, frozen=True, tag=True):
    """A fault in a cluster. ``lanes``: those of the master that it struck, or the lane that was moved.

    ``replicated_s``: all that the master had answered by then, its replica had. ``struck_s``: the fault was in effect.
    ``resumed_s``: a stopped master went on. ``refused_s``: from then on the old master answered no claim any more.
    ``whole_s``: the cluster was whole, and every process was ready. ``is_replaced``: another node holds the lanes.
    ``again``: how often an order was repeated, because the nodes had not done it in time.
    """

    kind: str
    target: str
    lanes: tuple[int, ...]
    replicated_s: float
    began_s: float
    struck_s: float
    resumed_s: float
    refused_s: float
    whole_s: float
    is_replaced: bool
    again: int = 0


class Carried(msgspec.Struct, kw_only=True, frozen=True, tag=True):
    """Everything that Redis had given by ``at_s`` was in the ledger."""

    at_s: float


Record = Claim | Tap | Send | Deposit | Look | Listed | Errand | Fault | Struck | Carried


class History:
    """The writing side. Use it as ``with History(path) as history``."""

    def __init__(self, path: Path, *, bytes_max: int = BYTES_MAX) -> None:
        self.path = path
        self._bytes_left = bytes_max
        self._encoder = msgspec.json.Encoder()
        self._started_s = time.monotonic()

    def __enter__(self) -> Self:
        """Start a new file."""
        self._file = self.path.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write everything to the file."""
        self._file.close()

    def now_s(self) -> float:
        """The time on this history's clock."""
        return round(time.monotonic() - self._started_s, 6)

    @property
    def is_full(self) -> bool:
        """Whether the history is full, so that guests should stop."""
        return self._bytes_left <= 0

    def flush(self) -> None:
        """Make all records readable."""
        self._file.flush()

    def add(self, record: Record) -> None:
        """Append a record."""
        line = self._encoder.encode(record) + b"\n"
        self._bytes_left -= len(line)
        self._file.write(line)


class Recorded:
    """A file's records in order. They can be iterated several times."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[Record]:
        """Start with the first record."""
        decoder = msgspec.json.Decoder(Record)
        with self._path.open("rb") as lines:
            for line in lines:
                yield decoder.decode(line)
