"""Page cursors: whole numbers joined by "-", opaque to clients."""

import re

from engine.errors import FieldProblem, InvalidFieldsError

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
