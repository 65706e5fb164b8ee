"""Files of codes: CSV with one code per line, read in parts, so that memory is bounded however long the file is."""

import csv
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import asyncpg

from engine.coupons.batches import Batch, Batches
from engine.coupons.uploading import PART_CODES_MAX, PartUploaded, upload_part
from engine.errors import OperatorError

_LINE_MAX = 1_000


async def upload_file(
    pool: asyncpg.Pool, batches: Batches, batch: Batch, path: Path, told: Callable[[PartUploaded], None]
) -> int:
    """Upload all codes of a file. Returns how many there are. ``told`` is called after each part.

    The same file again goes on where it was left: its parts are those that were taken before. Raises OperatorError if
    the file cannot be read, and as ``upload_part``, naming the line.
    """
    count = 0
    for part, codes in enumerate(parts_of(path, PART_CODES_MAX), start=1):
        taken = await upload_part(pool, batches, batch, part, codes, place=partial(_line, count + 1))
        count += len(codes)
        told(taken)
    return count


def _line(first: int, index: int) -> str:
    return f"line {first + index}"


def parts_of(path: Path, size: int) -> Iterator[list[str]]:
    """The codes of a file, ``size`` at a time. Raises OperatorError, naming the line that is no single code."""
    codes: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.reader(_bounded(file, path)), start=1):
                if len(row) != 1:
                    what = "is empty" if not row else "has several values"
                    raise OperatorError(f"Line {number} of {path} {what}: each line must be one code.")
                codes.append(row[0])
                if len(codes) == size:
                    yield codes
                    codes = []
    except OSError as error:
        raise OperatorError(f"{path} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise OperatorError(f"{path} is not CSV in UTF-8: {error}.") from None
    if codes:
        yield codes


def _bounded(lines: Iterator[str], path: Path) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if len(line) > _LINE_MAX:
            raise OperatorError(f"Line {number} of {path} is too long: each line must be one code.")
        yield line
