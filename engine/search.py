"""One box for everything: which packets, users, labels, campaigns and so on an operator may mean by a text."""

from dataclasses import dataclass

import asyncpg

from engine.ids import is_packet_number
from engine.ledger.database import ledger_errors
from engine.queries import load

SQL = load("search")
HITS_MAX = 100
"""Above what all kinds together can find, so that no kind hides another."""
TEXT_LENGTH_MAX = 200
_ROW_DIGITS_MAX = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """Something with this id. ``is_exact``: the text is its id or its name, not only the beginning of it.

    ``name``: it was found by this, which somebody has chosen and which is not its id. Then ``id`` is that of the page
    which shows it: a coupon batch, a fundraiser, a merchant and a display name are shown with their user.
    """

    kind: str
    id: str
    name: str | None
    is_exact: bool


async def find(pool: asyncpg.Pool, text: str) -> list[Hit]:
    """What a text may mean: by its form, and only what there is. Exact ones first. Raises UnavailableError."""
    text = text.strip()[:TEXT_LENGTH_MAX]
    if not text or "\x00" in text:
        return []
    packet_id = int(text) if is_packet_number(text) else None
    is_row = text.isdecimal() and text.isascii() and len(text) <= _ROW_DIGITS_MAX and not text.startswith("0")
    with ledger_errors():
        rows = await pool.fetch(SQL["find"], text, packet_id, int(text) if is_row else None, HITS_MAX)
    return [Hit(kind=row["kind"], id=row["id"], name=row["name"], is_exact=row["is_exact"]) for row in rows]
