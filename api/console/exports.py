"""Files of lists: exactly the rows of a list's filter, read page by page, so that memory stays bounded."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.responses import Response

from api.console import csv_files
from api.console.csv_files import Cell
from api.console.visits import Visit
from engine.ledger.currency import SCALE
from engine.paging import Page

PAGE_ROWS = 500
OF_ONE_MAX = 1_000_000
"""Rows of what one packet or one user has, where there is no filter to be narrowed."""
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column, or some. ``cells``: a row's cells under ``titles``."""

    titles: tuple[str, ...]
    cells: Callable[[Row], tuple[Cell, ...]]


def text(title: str, value: Callable[[Row], Cell]) -> Column[Row]:
    """A column of texts and of numbers that are no amounts."""
    return Column((title,), lambda row: (value(row),))


def time(title: str, value: Callable[[Row], int | None]) -> Column[Row]:
    """A column of times."""
    return Column((title,), lambda row: (csv_files.at(value(row)),))


def amount(
    title: str, value: Callable[[Row], int | None], scale: Callable[[Row], int | None] = lambda _row: None
) -> Column[Row]:
    """Two columns: with decimals, and in the smallest unit, as fen.

    ``scale``: of a row that may be of another asset, which another column names; None: it is of money.
    """

    def cells(row: Row) -> tuple[Cell, ...]:
        of = scale(row)
        return csv_files.yuan(value(row), SCALE if of is None else of), value(row)

    return Column((title, f"{title} (fen)"), cells)


async def file_of(
    visit: Visit,
    name: str,
    columns: Sequence[Column[Row]],
    page: Callable[[str | None, int], Awaitable[Page[Row]]],
    *,
    rows_max: int = csv_files.ROWS_MAX,
) -> Response:
    """The file of a list. ``page``: reads so many rows after a cursor. ``rows_max``: a longer list is refused."""

    async def rows() -> AsyncIterator[csv_files.Row]:
        found = await page(None, PAGE_ROWS)
        while True:
            for row in found.rows:
                yield [cell for column in columns for cell in column.cells(row)]
            if found.next is None:
                return
            found = await page(found.next, PAGE_ROWS)

    header = [title for column in columns for title in column.titles]
    return await visit.file(name, header, rows(), rows_max=rows_max)
