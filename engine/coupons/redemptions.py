"""A batch's redemptions as CSV, in the order of the coupons' numbers.

Every value starts with a grave accent, as in bills, so that spreadsheets neither round numbers nor run formulas.
"""

import codecs
import csv
import io
from collections.abc import AsyncIterator, Iterable, Sequence

import asyncpg

from engine.coupons.batches import Batch
from engine.ledger.database import ledger_errors
from engine.queries import load

SQL = load("coupons")
COLUMNS = ("coupon_id", "holder", "redeemed_at_ms", "transfer_id", "note")
PAGE = 500


def file_name(batch: Batch) -> str:
    """The file's name."""
    return f"redemptions_{batch.batch_id}.csv"


async def as_csv(pool: asyncpg.Pool, batch: Batch) -> AsyncIterator[bytes]:
    """The file, page by page: UTF-8 with a byte order mark. It holds no connection between two pages.

    Raises UnavailableError.
    """
    text, after = codecs.BOM_UTF8 + _lines([COLUMNS]), 0
    while True:
        with ledger_errors():
            rows = await pool.fetch(SQL["redemptions"], batch.batch_id, after, PAGE)
        yield text + _lines(_values(batch, row) for row in rows)
        if len(rows) < PAGE:
            return
        text, after = b"", rows[-1]["number"]


def _values(batch: Batch, row: asyncpg.Record) -> list[str]:
    coupon_id = f"{batch.batch_id}-{row['number']}"
    values = (coupon_id, row["holder"], row["ended_at_ms"], row["transfer_id"], row["note"] or "")
    return [f"`{value}" for value in values]


def _lines(lines: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n", quoting=csv.QUOTE_MINIMAL).writerows(lines)
    return text.getvalue().encode()
