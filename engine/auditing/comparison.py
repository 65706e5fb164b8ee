"""A reconciliation's result: the two sides of a comparison, and their differences."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import NamedTuple

import asyncpg

from engine.calendar.china_time import begin_ms
from engine.ledger.database import Connection
from engine.queries import load
from engine.text import decimal

SQL = load("reconciliation")
DIFFERENCES_MAX = 20
"""How many differences of one comparison are reported. The others are counted."""

_OF = ", "
"""Between a comparison's name and the asset, if it is of another one than the ledger's currency."""


class Day(NamedTuple):
    """A day in China: from ``first_ms`` until before ``after_ms``."""

    first_ms: int
    after_ms: int

    @classmethod
    def of(cls, day: date) -> "Day":
        """The day's bounds."""
        return cls(begin_ms(day), begin_ms(day + timedelta(days=1)))

    def has(self, at_ms: int) -> bool:
        """Whether a moment belongs to the day."""
        return self.first_ms <= at_ms < self.after_ms


class Units:
    """Says amounts as people read them: 1234 is 1234 fen, or 1.234 of an asset with the scale 3."""

    def __init__(self, connection: Connection | asyncpg.Pool) -> None:
        self._connection = connection
        self._scales: dict[str, int] = {}

    async def said(self, fen: int | Decimal | None, asset: str | None) -> str:
        """An amount with its unit (``asset`` None: of the ledger's currency), or that there is nothing."""
        return "nothing" if fen is None else f"{await self.number(fen, asset)} {asset or 'fen'}"

    async def number(self, fen: int | Decimal, asset: str | None) -> str:
        """An amount without its unit."""
        if asset is None:
            return str(fen)
        if asset not in self._scales:
            self._scales[asset] = await self._connection.fetchval(SQL["scale"], asset)
        return decimal(int(fen), self._scales[asset])


@dataclass(slots=True, kw_only=True)
class Side:
    """One side of a comparison. ``fen`` None: it has a count but no sum."""

    what: str
    count: int = 0
    fen: int | None = 0

    def add(self, fen: int | Decimal) -> None:
        """Count one more. A sum from Postgres is a Decimal."""
        self.count += 1
        self.fen = int(fen) + (self.fen or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a difference is about, as far as it is about a single packet, user or withdrawal."""

    packet_id: str | None = None
    user_id: str | None = None
    withdrawal_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The amount on each side, and one sentence per difference. ``more``: how many are not listed.

    ``subjects``: what each difference is about, in the same order.
    """

    name: str
    left: Side
    right: Side
    differences: tuple[str, ...]
    more: int
    subjects: tuple[Subject, ...] = ()

    @property
    def asset(self) -> str | None:
        """What its sums are of. None: the ledger's currency."""
        return self.name.partition(_OF)[2] or None

    @property
    def agrees(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    @property
    def difference_count(self) -> int:
        """How many more the left side has."""
        return self.left.count - self.right.count

    @property
    def difference_fen(self) -> int | None:
        """How many fen more the left side has. None if a side has no sum."""
        return None if self.left.fen is None or self.right.fen is None else self.left.fen - self.right.fen


NOBODY = Subject()


def named(name: str, asset: str | None) -> str:
    """The name of a comparison of an asset (None: of the ledger's currency)."""
    return name if asset is None else f"{name}{_OF}{asset}"


class Differences:
    """Collects differences: keeps the first ones and counts the others."""

    def __init__(self, found: Iterable[str] = ()) -> None:
        self._told: list[str] = []
        self._subjects: list[Subject] = []
        self._more = 0
        for difference in found:
            self.add(difference)

    def add(self, difference: str, subject: Subject = NOBODY) -> None:
        """Add one more."""
        if len(self._told) < DIFFERENCES_MAX:
            self._told.append(difference)
            self._subjects.append(subject)
        else:
            self._more += 1

    def of(self, name: str, left: Side, right: Side) -> Comparison:
        """The comparison with these differences. If only the sums differ, this is a difference, too."""
        sums_differ = None not in (left.fen, right.fen) and left.fen != right.fen
        if not self._told and (left.count != right.count or sums_differ):
            self.add(f"{left.what} and {right.what} differ in sum, but no single item does")
        return Comparison(
            name=name,
            left=left,
            right=right,
            differences=tuple(self._told),
            more=self._more,
            subjects=tuple(self._subjects),
        )


class Pairs:
    """Two sides and their differences, of each asset (None: the ledger's currency, which is always compared)."""

    def __init__(self, left: str, right: str) -> None:
        self._found: dict[str | None, Pair] = {}
        self._left, self._right = left, right
        self.of(None)

    def of(self, asset: str | None) -> "Pair":
        """An asset's sides."""
        if asset not in self._found:
            self._found[asset] = Pair(Side(what=self._left), Side(what=self._right), Differences())
        return self._found[asset]

    def compared(self, name: str) -> list[Comparison]:
        """One comparison per asset."""
        pairs = sorted(self._found.items(), key=lambda item: item[0] or "")
        return [pair.differences.of(named(name, asset), pair.left, pair.right) for asset, pair in pairs]


class Pair(NamedTuple):
    """Two sides and how they differ."""

    left: Side
    right: Side
    differences: Differences
