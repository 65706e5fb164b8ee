"""Files of rows for spreadsheets: exactly the rows of a list's filter, page by page, so that memory stays bounded.

UTF-8 with a byte order mark, CRLF. Numbers of more than 15 digits, which spreadsheets round, begin with a tab and so are
texts. A text that a spreadsheet would take for a formula begins with an apostrophe. Amounts have two columns.
"""

import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

import structlog
from starlette.responses import Response, StreamingResponse

from api.console.visits import Visit
from engine.calendar.china_time import CHINA
from engine.errors import HongbaoError
from engine.operators.log import FAILED, OK
from engine.paging import Page
from engine.text import decimal

ROWS_MAX = 100_000
PAGE_ROWS = 500
_FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r")
_DIGITS_MAX = 15
Row = TypeVar("Row")
Value = str | int | None
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column. ``cells``: a row's cells under ``titles``."""

    titles: tuple[str, ...]
    cells: Callable[[Row], tuple[str, ...]]


def text(title: str, value: Callable[[Row], Value]) -> Column[Row]:
    """A column of texts and of numbers that are no amounts."""
    return Column((title,), lambda row: (safe(value(row)),))


def time(title: str, value: Callable[[Row], int | None]) -> Column[Row]:
    """A column of times, as ISO with China's offset."""
    return Column((title,), lambda row: (iso(value(row)),))


def amount(title: str, value: Callable[[Row], int | None]) -> Column[Row]:
    """Two columns: in yuan with two decimals, and in fen."""

    def cells(row: Row) -> tuple[str, ...]:
        fen = value(row)
        return ("", "") if fen is None else (decimal(fen, 2), str(fen))

    return Column((title, f"{title} (fen)"), cells)


def safe(value: Value) -> str:
    """A cell that is shown as it is: no formula, and no digit lost."""
    if value is None:
        return ""
    told = str(value)
    if isinstance(value, int):
        return f"\t{told}" if len(told) > _DIGITS_MAX else told
    if told.isdigit() and len(told) > _DIGITS_MAX:
        return f"\t{told}"
    return f"'{told}" if told.startswith(_FORMULA_BEGINS) else told


def iso(at_ms: int | None) -> str:
    """A time to the millisecond, in China."""
    return "" if at_ms is None else datetime.fromtimestamp(at_ms / 1000, CHINA).isoformat(timespec="milliseconds")


async def file_of(
    visit: Visit,
    name: str,
    columns: Sequence[Column[Row]],
    page: Callable[[str | None, int], Awaitable[Page[Row]]],
) -> Response:
    """The file of a list. ``page``: reads the page after a cursor. The first page is read before the answer begins.

    The log has a row when it was asked for, and one at its end with the number of rows.
    """
    first = await page(None, PAGE_ROWS)
    at = datetime.now(CHINA)
    visit.told = "the file begins"
    headers = {"content-disposition": f'attachment; filename="{name}_{at:%Y-%m-%dT%H%M}.csv"'}
    return StreamingResponse(
        _stream(visit, columns, first, page), media_type="text/csv; charset=utf-8", headers=headers
    )


async def _stream(
    visit: Visit,
    columns: Sequence[Column[Row]],
    first: Page[Row],
    page: Callable[[str | None, int], Awaitable[Page[Row]]],
) -> AsyncIterator[bytes]:
    count, outcome, told = 0, FAILED, "broken off after"
    try:
        yield b"\xef\xbb\xbf" + _lines([[title for column in columns for title in column.titles]])
        found = first
        while True:
            rows = found.rows[: ROWS_MAX - count]
            yield _lines([[cell for column in columns for cell in column.cells(row)] for row in rows])
            count += len(rows)
            if found.next is None or count >= ROWS_MAX:
                break
            found = await page(found.next, PAGE_ROWS)
        outcome, told = OK, "the file has"
    except HongbaoError as error:  # the answer has begun: it ends short, and the client sees that
        _log.warning("a file was broken off", rows=count, error=str(error))
        raise
    finally:
        await visit.desk.log.write(
            visit.actor, visit.row.action, outcome, subject=visit.subject(), told=f"{told} {count} rows"
        )


def _lines(rows: Sequence[Sequence[str]]) -> bytes:
    body = io.StringIO()
    csv.writer(body, lineterminator="\r\n").writerows(rows)
    return body.getvalue().encode()
