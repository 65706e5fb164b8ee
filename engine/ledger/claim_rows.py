"""Claims as rows of ``transfers`` in Postgres's binary format, in one piece: it copies this the fastest.

Every field of a claim's row has a fixed width. So all rows are one numpy array, and Python makes no single row.
Format: "COPY / Binary Format" in Postgres's manual (a header, per row the number of fields and each field's length and
value in network order, a trailer).
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

COLUMNS = ("kind", "from_account", "to_account", "amount_fen", "at_ms", "slot", "position")
_KIND = b"claim"
HEADER_BYTES, TRAILER_BYTES = 19, 2
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_WIDTHS = {"from_account": 8, "to_account": 8, "amount_fen": 8, "at_ms": 8, "slot": 4, "position": 8}
ROW = np.dtype(
    [("fields", ">i2"), ("kind_length", ">i4"), ("kind", f"S{len(_KIND)}")]
    + [field for name, width in _WIDTHS.items() for field in ((f"{name}_length", ">i4"), (name, f">i{width}"))]
)
"""One row: ``fields``, ``kind`` and each of the other columns by name, and their lengths."""
_EMPTY_ROW = np.zeros(1, dtype=ROW)
_EMPTY_ROW["fields"] = len(COLUMNS)
_EMPTY_ROW["kind_length"] = len(_KIND)
_EMPTY_ROW["kind"] = _KIND
for _name, _width in _WIDTHS.items():
    _EMPTY_ROW[f"{_name}_length"] = _width


def claim_rows(columns: dict[str, NDArray[np.int64]]) -> bytes:
    """The data for a binary COPY into ``transfers`` (COLUMNS). ``columns`` has an array per column except the kind."""
    rows = np.repeat(_EMPTY_ROW, len(columns["slot"]))
    for name, values in columns.items():
        rows[name] = values
    return b"".join((_HEADER, rows.tobytes(), _TRAILER))


def body(copied: bytes) -> memoryview:
    """Only the rows of what ``claim_rows`` returned."""
    return memoryview(copied)[HEADER_BYTES:-TRAILER_BYTES]


def summed(accounts: NDArray[np.int64], amounts_fen: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Each account once, in order, and the sum of its amounts. All numbers are integers."""
    order = np.argsort(accounts, kind="stable")
    in_order = accounts[order]
    starts = np.flatnonzero(np.r_[True, in_order[1:] != in_order[:-1]])
    return in_order[starts].tolist(), np.add.reduceat(amounts_fen[order], starts).tolist()


def joined(parts: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """The numbers of all parts, one after the other."""
    return np.fromiter(chain.from_iterable(parts), dtype=np.int64, count=sum(map(len, parts)))
