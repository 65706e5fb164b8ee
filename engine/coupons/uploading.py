"""Uploading a batch's codes, in parts. A part is taken once, however often it comes.

Each code gets the next number. In the ledger's database it is encrypted, and found by a keyed hash.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import asyncpg

from engine.coupons.batches import Batch, Batches
from engine.coupons.codes import CODE_RULE, is_code
from engine.coupons.keys import BatchKeys
from engine.errors import CodePartDiffersError, FieldProblem, InvalidFieldsError
from engine.ledger.database import Connection, ledger_change
from engine.ledger.money import now_ms
from engine.queries import load

SQL = load("coupons")
PART_MAX = 1_000_000
"""The highest number of a part."""
PART_CODES_MAX = 50_000
"""A part is encrypted in a thread in about a quarter of a second, and written in one transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartUploaded:
    """A part is there. ``uploaded``: how many codes the batch has now. ``replayed``: it had been taken before."""

    batch_id: str
    part: int
    codes: int
    uploaded: int
    replayed: bool


async def upload_part(
    pool: asyncpg.Pool,
    batches: Batches,
    batch: Batch,
    part: int,
    codes: Sequence[str],
    *,
    place: Callable[[int], str] = "codes[{}]".format,
) -> PartUploaded:
    """Take a part of a batch's codes. The order of parts does not matter.

    ``place``: names a bad code, by its index. Raises InvalidFieldsError for a code of another form or one that
    the batch has, or if there are more codes than coupons, CodePartDiffersError, NoCouponKeyError, UnavailableError.
    """
    if batch.terms.codes != "uploaded":
        raise InvalidFieldsError([FieldProblem("codes", "must not be uploaded: this batch's codes are derived")])
    if not 1 <= part <= PART_MAX:
        raise InvalidFieldsError([FieldProblem("part", f"must be from 1 to {PART_MAX}")])
    if not 1 <= len(codes) <= PART_CODES_MAX:
        raise InvalidFieldsError([FieldProblem("codes", f"must be 1 to {PART_CODES_MAX}")])
    problems = [FieldProblem(place(index), CODE_RULE) for index, code in enumerate(codes) if not is_code(code)]
    if problems:
        raise InvalidFieldsError(problems)
    if len(set(codes)) < len(codes):
        raise InvalidFieldsError([FieldProblem(place(_second(codes)), "must not be there twice")])
    keys = batches.keys_of(batch)
    hashes, whole = await asyncio.to_thread(_hashed, keys, codes)
    try:
        async with ledger_change(pool) as connection:
            return await _take(connection, batch, part, codes, (keys, hashes, whole))
    except asyncpg.UniqueViolationError:
        known = {row["hash"] for row in await pool.fetch(SQL["known_hashes"], batch.batch_id, hashes)}
        found = [index for index, hashed in enumerate(hashes) if hashed in known]
        if not found:
            raise
        problem = FieldProblem(place(found[0]), "must not be one that the batch has already")
        raise InvalidFieldsError([problem]) from None


def _second(codes: Sequence[str]) -> int:
    """Where a code is for the second time."""
    seen: set[str] = set()
    for index, code in enumerate(codes):
        if code in seen:
            return index
        seen.add(code)
    raise AssertionError("one is there twice")


def _hashed(keys: BatchKeys, codes: Sequence[str]) -> tuple[list[bytes], bytes]:
    """Each code's hash, and one of all together."""
    hashes = [keys.hash(code.encode()) for code in codes]
    return hashes, keys.hash(b"".join(hashes))


async def _take(
    connection: Connection,
    batch: Batch,
    part: int,
    codes: Sequence[str],
    hidden: tuple[BatchKeys, list[bytes], bytes],
) -> PartUploaded:
    keys, hashes, whole = hidden
    batch_id, count = batch.batch_id, len(codes)
    (locked,) = await connection.fetch(SQL["lock_batch"], batch_id)
    uploaded, at_ms = locked["uploaded"], await now_ms(connection)
    taken = await connection.fetchrow(SQL["part"], batch_id, part)
    if taken is not None:
        if taken["hash"] != whole:
            raise CodePartDiffersError(f"Part {part} was uploaded before, with other codes.")
        return PartUploaded(batch_id=str(batch_id), part=part, codes=count, uploaded=uploaded, replayed=True)
    if at_ms >= locked["valid_until_ms"]:
        raise InvalidFieldsError([FieldProblem("codes", "must come before the coupons' time is over")])
    left = locked["count"] - uploaded
    if count > left:
        raise InvalidFieldsError([FieldProblem("codes", f"must be at most {left}: the batch has no more coupons")])
    numbers = range(uploaded + 1, uploaded + 1 + count)
    sealed = await asyncio.to_thread(lambda: list(map(keys.seal, numbers, codes)))
    await connection.execute(SQL["add_codes"], batch_id, list(numbers), hashes, sealed)
    await connection.execute(SQL["add_part"], batch_id, part, numbers[0], count, whole, at_ms)
    await connection.execute(SQL["count_uploaded"], batch_id, count)
    if await connection.execute(SQL["extend_free"], batch_id, numbers[0], count) == "UPDATE 0":
        await connection.execute(SQL["add_free"], batch_id, numbers[0], count)
    return PartUploaded(batch_id=str(batch_id), part=part, codes=count, uploaded=uploaded + count, replayed=False)
