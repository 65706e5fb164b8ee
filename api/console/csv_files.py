"""CSV files for spreadsheets: UTF-8 with a byte order mark, CRLF, streamed piece by piece.

- A text that a spreadsheet would run as a formula has an apostrophe before it; one that it would change (a long number,
  00123, 1e5, 2026-11-28) has a tab (``engine.spreadsheets``). Times and amounts are read as what they are.
- It has all rows or there is none: a list with more rows than a file may have is refused.
- Times are China's, as ISO 8601 (``at``); amounts have two columns, yuan and fen (``yuan`` makes the first).
- An amount that may be of another asset has the asset's decimals, and a column with its code beside it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from tempfile import SpooledTemporaryFile
from typing import IO

from engine.calendar.china_time import CHINA
from engine.errors import HongbaoError
from engine.spreadsheets import Plain, kept
from engine.text import decimal

ROWS_MAX = 100_000
"""A file has no more rows. A list with more is refused: its filter must be narrower."""
_MARK = b"\xef\xbb\xbf"
_TOGETHER = 200
_IN_MEMORY_BYTES_MAX, _PIECE_BYTES = 2**20, 2**16

Cell = str | int | None
Row = Sequence[Cell]


class TooManyRowsError(HongbaoError):
    """A list has more rows than a file may have."""

    code = "too_many_rows"


def at(at_ms: int | None) -> str:
    """A time as ISO 8601 in China, or empty."""
    return "" if at_ms is None else Plain(datetime.fromtimestamp(at_ms // 1000, CHINA).isoformat())


def yuan(amount: int | None, scale: int = 2) -> str:
    """An amount with its decimals, or empty. Its column beside it should have the whole number."""
    return "" if amount is None else Plain(decimal(amount, scale))


def line(row: Row) -> str:
    """One row as text."""
    return ",".join(map(_cell, row)) + "\r\n"


def name_of(what: str, at_ms: int) -> str:
    """The file's name: packets_2026-11-28T0703.csv."""
    return f"{what}_{datetime.fromtimestamp(at_ms // 1000, CHINA):%Y-%m-%dT%H%M}.csv"


async def whole(header: Row, rows: AsyncIterator[Row], *, rows_max: int = ROWS_MAX) -> tuple[IO[bytes], int]:
    """The whole file, at its beginning, and how many rows it has. The caller closes it. What is large is on the disk.

    It is made before any of it is sent: a file that ends too early would look like all there is. Raises
    TooManyRowsError, and as ``rows`` does.
    """
    count, lines = 0, [line(header)]
    file = SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES_MAX)  # noqa: SIM115  # the caller closes it
    try:
        file.write(_MARK)
        async for row in rows:
            count += 1
            if count > rows_max:
                raise TooManyRowsError(
                    f"The list has more than {rows_max:,} rows, the most that a file has. Narrow the filter."
                )
            lines.append(line(row))
            if len(lines) >= _TOGETHER:
                file.write("".join(lines).encode())
                lines = []
        file.write("".join(lines).encode())
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file, count


async def pieces(file: IO[bytes], ended: Callable[[], None]) -> AsyncIterator[bytes]:
    """A file piece by piece. ``ended`` is called once all are read."""
    while piece := file.read(_PIECE_BYTES):
        yield piece
        await asyncio.sleep(0)  # reading it never waits, and that its reader has hung up would go unseen
    ended()


def _cell(value: Cell) -> str:
    if value is None:
        return ""
    text = kept(value if isinstance(value, str) else str(value))
    if any(character in text for character in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text
