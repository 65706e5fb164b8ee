"""CSV files for spreadsheets: UTF-8 with a byte order mark, CRLF, streamed row by row.

- A number of more than 15 digits has a tab before it, because spreadsheets would round it.
- A text that a spreadsheet would run as a formula has an apostrophe before it.
- Times are China's, as ISO 8601 (``at``); amounts have two columns, yuan and fen (``yuan`` makes the first).
"""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime

from engine.calendar.china_time import CHINA
from engine.text import decimal

ROWS_MAX = 100_000
"""A file has no more rows. Its filter must be narrower."""
_MARK = b"\xef\xbb\xbf"
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Spreadsheets of East Asia take the wide forms of these signs, too."""
_EXACT_DIGITS = 15
_TOGETHER = 200

Cell = str | int | None
Row = Sequence[Cell]


def at(at_ms: int | None) -> str:
    """A time as ISO 8601 in China, or empty."""
    return "" if at_ms is None else datetime.fromtimestamp(at_ms // 1000, CHINA).isoformat()


def yuan(amount: int | None, scale: int = 2) -> str:
    """An amount with its decimals, or empty. Its column beside it should have the whole number."""
    return "" if amount is None else decimal(amount, scale)


def line(row: Row) -> str:
    """One row as text."""
    return ",".join(map(_cell, row)) + "\r\n"


def name_of(what: str, at_ms: int) -> str:
    """The file's name: packets_2026-11-28T0703.csv."""
    return f"{what}_{datetime.fromtimestamp(at_ms // 1000, CHINA):%Y-%m-%dT%H%M}.csv"


async def pieces(header: Row, rows: AsyncIterator[Row], counted: Callable[[int], None]) -> AsyncIterator[bytes]:
    """The file piece by piece. ``counted`` gets how many rows there were, once all are read."""
    count, piece = 0, [line(header)]
    yield _MARK
    async for row in rows:
        piece.append(line(row))
        count += 1
        if len(piece) >= _TOGETHER:
            yield "".join(piece).encode()
            piece = []
        if count >= ROWS_MAX:
            break
    if piece:
        yield "".join(piece).encode()
    counted(count)


def _cell(value: Cell) -> str:
    if value is None:
        return ""
    text = str(value)
    digits = text.removeprefix("-")
    if digits.isdecimal() and digits.isascii():
        return f"\t{text}" if len(digits) > _EXACT_DIGITS else text
    if _is_decimal(digits):
        return text
    if text.startswith(("\t", "\r", "\n")) or text.lstrip().startswith(_FORMULA):
        text = f"'{text}"
    if any(character in text for character in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _is_decimal(digits: str) -> bool:
    """Whether it is an amount with decimals, whose minus is no formula."""
    whole, dot, rest = digits.partition(".")
    return bool(dot) and (whole + rest).isdecimal() and (whole + rest).isascii()
