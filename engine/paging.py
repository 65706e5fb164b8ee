"""Page cursors: whole numbers joined by "-", opaque to clients."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from engine.errors import FieldProblem, InvalidFieldsError

Row = TypeVar("Row")
_CURSOR = re.compile(r"\d{1,18}(-\d{1,19})?", re.ASCII)

NEWEST = 2**63 - 1
"""Above every row's number: the start of a list that shows the newest first."""


def parse(cursor: str | None, *, parts: int, start: tuple[int, ...]) -> tuple[int, ...]:
    """The numbers of a cursor, or ``start`` without one. Raises InvalidFieldsError naming ``after``."""
    if cursor is None:
        return start
    numbers = tuple(int(part) for part in cursor.split("-")) if _CURSOR.fullmatch(cursor) else ()
    if len(numbers) != parts or max(numbers) >= 2**63:
        raise InvalidFieldsError([FieldProblem("after", "must be the `next` of the page before")])
    return numbers


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some rows of a list in its order. ``next``: the next page's cursor, None on the last page."""

    rows: list[Row]
    next: str | None


def page_of(found: Sequence[Row], limit: int, cursor: Callable[[Row], str]) -> Page[Row]:
    """The page of a query for ``limit`` + 1 rows. ``cursor``: where the list goes on after a row."""
    rows = list(found[:limit])
    return Page(rows, cursor(rows[-1]) if len(found) > limit else None)
