"""Which of a batch's coupons a packet has: it takes free numbers when it is paid, in as few ranges as there are.

What comes back at its end is free again (`free_coupons` in the migrations, called where the ledger books the end).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from engine.errors import FieldProblem, InsufficientFundsError, InvalidFieldsError
from engine.ledger.database import Connection
from engine.queries import load
from engine.records import Ack, Purpose, Terms

SQL = load("coupons")
RANGES_MAX = 1_000
"""In how many ranges a packet's numbers may be."""
PREFIX = "COUPON_"
"""What the asset of each batch begins with. An asset from before coupons may begin so, too."""


class Batch(NamedTuple):
    """What a sending must know of a batch."""

    batch_id: int
    owner: str
    valid_until_ms: int


async def batch_of(connection: Connection, asset: str | None) -> Batch | None:
    """The batch whose coupons an asset counts, if it is one."""
    if asset is None or not asset.startswith(PREFIX):
        return None
    row = await connection.fetchrow(SQL["batch_of_asset"], asset)
    return None if row is None else Batch(**row)


def checked(batch: Batch, sender: str, terms: Terms, expires_at_ms: int) -> Terms:
    """The terms of a packet of coupons. Its claims are acknowledged by the ledger, whatever the sender asked for.

    A code is shown with the claim, and a claim that a failover loses would have its code shown twice. Raises
    InvalidFieldsError naming every bad field.
    """
    problems = []
    if terms.purpose is Purpose.TRANSFER:
        problems.append(
            FieldProblem("asset", "must not be of coupons: POST /v1/coupons/{coupon_id}/transfer passes one on")
        )
    elif batch.owner != sender:
        problems.append(FieldProblem("asset", "must not be of coupons whose batch is somebody else's"))
    if terms.total_fen != terms.count:
        problems.append(FieldProblem("total_fen", f"must be {terms.count}, the count: each share is one coupon"))
    if expires_at_ms > batch.valid_until_ms:
        until = f"must end by {batch.valid_until_ms}, when the coupons' time is over"
        problems.append(FieldProblem("ttl_s", until))
    if problems:
        raise InvalidFieldsError(problems)
    return replace(terms, ack=Ack.LEDGER)


async def take(connection: Connection, batch: Batch, packet_id: int, count: int) -> None:
    """Give a packet's shares their numbers, inside the transaction that pays for it.

    Raises InsufficientFundsError if too few numbers are free (of uploaded codes: those that are there), and
    InvalidFieldsError if they lie in too many ranges.
    """
    ranges = await _free(connection, batch.batch_id)
    if sum(free for _, free in ranges) < count and len(ranges) == RANGES_MAX:
        await connection.execute(SQL["merge_free"], batch.batch_id)
        ranges = await _free(connection, batch.batch_id)
    found = sum(free for _, free in ranges)
    if found < count:
        if len(ranges) == RANGES_MAX:
            raise InvalidFieldsError(
                [FieldProblem("count", f"must be at most {found}: the free coupons are scattered")]
            )
        raise InsufficientFundsError(f"Only {found} coupons of the batch can be sent now.")
    taken = list(_first_of(ranges, count))
    await connection.execute(SQL["take_free"], batch.batch_id, [first for first, _, _ in taken])
    first_number, used, free = taken[-1]
    if used < free:
        await connection.execute(SQL["add_free"], batch.batch_id, first_number + used, free - used)
    slots, slot = [], 0
    for _, used, _ in taken:
        slots.append(slot)
        slot += used
    columns = (slots, [used for _, used, _ in taken], [first for first, _, _ in taken])
    await connection.execute(SQL["add_ranges"], packet_id, batch.batch_id, *columns)


async def _free(connection: Connection, batch_id: int) -> list[tuple[int, int]]:
    """Free ranges, the largest first: where each begins, and how many numbers it has."""
    return [(row["first_number"], row["count"]) for row in await connection.fetch(SQL["free"], batch_id, RANGES_MAX)]


def _first_of(ranges: list[tuple[int, int]], count: int) -> Iterator[tuple[int, int, int]]:
    """Ranges that have ``count`` numbers: where each begins, how many of it are used, and how many it has."""
    left = count
    for first, free in ranges:
        if not left:
            return
        used = min(left, free)
        left -= used
        yield first, used, free
