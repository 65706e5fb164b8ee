"""The hash chain over each lane's batches, computed again from the ledger's rows, from the first batch on.

A hash shows only in which batch a row was changed. The position often shows where a row was removed or added, because a
lane's positions have no gaps. ``engine.ledger.chain`` says what each hash covers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import asyncpg
import numpy as np
from numpy.typing import NDArray

from engine.auditing.streams import SQL, ClaimRows, Rows
from engine.ledger.chain import ASIDE_COLUMNS, Counts, Refund, batch_hash, rows_digest
from engine.ledger.database import Connection
from engine.records import PacketState

_NAMED_MAX = 5
_END = (1_000, 0)
"""A number after the last lane, to take all remaining rows."""


@dataclass(slots=True)
class _Lane:
    """The walk's place in one lane. ``expected``: the last batch's computed hash. ``stored``: its recorded hash."""

    lane: int
    position: int = 0
    stored: bytes | None = None
    expected: bytes | None = None


class _Held(NamedTuple):
    """The ledger's rows of one batch, without those that were set aside and retried later."""

    claims: NDArray[np.void]
    refunds: list[asyncpg.Record]
    asides: list[asyncpg.Record]


@dataclass(slots=True)
class _Walk:
    """One walk along all chains."""

    claims: ClaimRows
    refunds: Rows
    asides: Rows
    examined: int = 0
    problems: list[str] = field(default_factory=list)

    async def take(self, lane: int, position: int) -> _Held:
        """The lane's next rows in the ledger, up to a position."""
        claims = await self.claims.take(lane, position)
        held = _Held(claims, await self.refunds.take(lane, position), await self.asides.take(lane, position))
        self.examined += len(held.claims) + len(held.refunds) + len(held.asides)
        return held

    async def skip(self, lane: int, position: int) -> None:
        """Report all rows up to here, because they belong to no batch."""
        count = 0
        async for part in self.claims.parts(lane, position):
            for row in part[: max(0, _NAMED_MAX - count)]:
                self._tell_stray("claim", int(row["from_account"]), int(row["position"]))
            count += len(part)
        for what, rows, column in (
            ("refund", self.refunds, "from_account"),
            ("row in quarantine", self.asides, "packet_id"),
        ):
            async for row in rows.up_to(lane, position):
                count += 1
                if count <= _NAMED_MAX:
                    self._tell_stray(what, row[column], row["position"])
        self.examined += count
        if count > _NAMED_MAX:
            self.problems.append(f"{count - _NAMED_MAX} more rows there belong to no batch")

    def _tell_stray(self, what: str, packet: int, position: int) -> None:
        self.problems.append(f"packet {packet}: a {what} at change {position} belongs to no batch")


async def lanes_unbroken(connection: Connection, copying: Connection) -> tuple[int, list[str]]:
    """Walk along each lane's batches. ``copying``: a second connection with the same snapshot."""
    lanes = {row["lane"]: row for row in await connection.fetch(SQL["lanes"])}
    async with ClaimRows(copying) as claims:
        refunds, asides = connection.cursor(SQL["refunds"]), connection.cursor(SQL["asides"])
        walk = _Walk(claims, Rows(aiter(refunds)), Rows(aiter(asides)))
        at: dict[int, _Lane] = {
            lane: _Lane(lane, position=row["chained_from"], stored=None) for lane, row in lanes.items()
        }
        async for batch in connection.cursor(SQL["batches"], prefetch=1_000):
            await _check_batch(walk, at.setdefault(batch["lane"], _Lane(batch["lane"])), batch)
        await walk.skip(*_END)
    for lane, reached in at.items():
        walk.problems += (
            _wrong_head(reached, lanes[lane]) if lane in lanes else [f"lane {lane}: only its batches are there"]
        )
    for row in await connection.fetch(SQL["strays"]):
        walk.problems.append(
            f"entry {row['transfer_id']}: a {row['kind']} out of {row['from_account']} belongs to no batch"
        )
    return walk.examined, walk.problems


async def begins(connection: Connection) -> str:
    """Names the chains that begin after the lane's first batch, because an older release wrote that batch."""
    late = [row for row in await connection.fetch(SQL["lanes"]) if row["chained_from"]]
    told = ", ".join(f"lane {row['lane']} from change {row['chained_from'] + 1} on" for row in late[:_NAMED_MAX])
    return f" ({told}{', ...' if len(late) > _NAMED_MAX else ''})" if late else ""


async def _check_batch(walk: _Walk, at: _Lane, batch: asyncpg.Record) -> None:
    """Check one batch and continue after it."""
    lane, position, before, *rest = batch[:8]
    counts, stored = Counts(*rest), batch["hash"]
    name = f"lane {lane}, batch of changes {before + 1} to {position}"
    await walk.skip(lane, before)
    held = await walk.take(lane, position)
    walk.examined += 1
    held = _without_retried(held, name, walk.problems)
    aside = [[row[column] for column in ASIDE_COLUMNS] for row in held.asides]
    refunds = [Refund(*(row[column] for column in Refund._fields)) for row in held.refunds]
    digest = rows_digest([held.claims.tobytes()], refunds, aside)
    expected = batch_hash(at.stored, batch[:3], counts, digest)
    follows = batch_hash(at.expected, batch[:3], counts, digest)  # if the previous hash was rewritten
    if before != at.position:
        walk.problems.append(_unjoined(name, at.position, before))
        expected = stored  # the rows that it covers are gone
    elif stored is None:
        walk.problems.append(f"{name}: it has no hash")
    elif stored not in (expected, follows):
        walk.problems.append(f"{name}: {'; '.join(_why(before, position, counts, held))}")
    at.position, at.stored, at.expected = position, stored, expected


def _unjoined(name: str, reached: int, before: int) -> str:
    if before > reached:
        return f"{name}: the batch of changes {reached + 1} to {before}, before it, was removed"
    return f"{name}: it was inserted, or begins too early: the one before it ends at {reached}"


def _wrong_head(at: _Lane, row: asyncpg.Record) -> Iterator[str]:
    """Compare the lane's own row with its last batch."""
    if row["position"] > at.position:
        yield f"lane {at.lane}: the last batch, of changes {at.position + 1} to {row['position']}, was removed"
    elif row["position"] < at.position:
        yield f"lane {at.lane}: its checkpoint is {row['position']}, its batches go to {at.position}"
    elif row["hash"] not in (at.stored, at.expected):
        yield f"lane {at.lane}: its head is not the hash of its last batch"


def _without_retried(held: _Held, name: str, problems: list[str]) -> _Held:
    """Remove the rows that a retry added later. First they are compared with the set-aside rows in the chain."""
    retried = [row for row in held.asides if row["resolution"] == "retried"]
    if not retried:
        return held
    claims, refunds = held.claims, list(held.refunds)
    for row in retried:
        found: Any = None
        if row["kind"] == "claim":
            at = claims["position"] == row["position"]
            found = claims[at]
            claims = claims[~at]
            wanted = (row["packet_id"], row["account_id"], row["amount_fen"], row["at_ms"], row["slot"])
            is_there = len(found) == 1 and tuple(found[0][column] for column in _CLAIM_COLUMNS) == wanted
        else:
            found = [refund for refund in refunds if refund["position"] == row["position"]]
            refunds = [refund for refund in refunds if refund["position"] != row["position"]]
            due = [(row["packet_id"], row["amount_fen"])] if row["amount_fen"] else []
            is_there = [(refund["from_account"], refund["amount_fen"]) for refund in found] == due
        if not is_there:
            problems.append(
                f"{name}: change {row['position']} was retried, and is not in the ledger as it was set aside"
            )
    return _Held(claims, refunds, held.asides)


_CLAIM_COLUMNS = ("from_account", "to_account", "amount_fen", "at_ms", "slot")


def _why(before: int, position: int, counts: Counts, held: _Held) -> Iterator[str]:
    """Why a batch's hash may be wrong."""
    asides = [row["position"] for row in held.asides if row["state"] != PacketState.EXHAUSTED]
    refunds = [row["position"] for row in held.refunds]
    positions = np.concatenate([held.claims["position"].astype(np.int64), np.array(refunds + asides, dtype=np.int64)])
    seen, times = np.unique(positions, return_counts=True)
    missing = np.setdiff1d(np.arange(before + 1, position + 1), seen)
    without_rows = counts.opened + counts.closed - counts.refunds
    told = False
    for what, number, said in (("claims", len(held.claims), counts.claims), ("refunds", len(refunds), counts.refunds)):
        if number != said:
            told = True
            yield f"it had {said} {what}, the ledger has {number}"
    if len(twice := seen[times > 1]):
        told = True
        yield f"{_changes(twice)} there more than once"
    if len(missing) > without_rows:
        told = True
        among = "" if without_rows == 0 else f" ({without_rows} of them never had a row)"
        yield f"{_changes(missing)} missing{among}"
    if not told:
        yield "it, or a row of these changes, was changed"


def _changes(positions: NDArray[np.int64]) -> str:
    """Some positions as text, with the verb that follows."""
    named = ", ".join(map(str, positions[:_NAMED_MAX].tolist()))
    more = f" and {len(positions) - _NAMED_MAX} more" if len(positions) > _NAMED_MAX else ""
    return f"change {named} is" if len(positions) == 1 else f"changes {named}{more} are"
