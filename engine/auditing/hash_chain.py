"""The hash chain over each lane's batches, computed again from the ledger's rows, for a part of history or all of it.

A hash shows only in which batch a row was changed. The position often shows where a row was removed or added, because a
lane's positions have no gaps. ``engine.ledger.chain`` says what each hash covers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import asyncpg
import numpy as np
from numpy.typing import NDArray

from engine.auditing.spans import ID_MAX, LaneEnd, Span
from engine.auditing.streams import SQL, ClaimRows, Rows
from engine.ledger.chain import ASIDE_COLUMNS, Counts, Refund, batch_hash, rows_digest
from engine.ledger.database import Connection
from engine.records import PacketState

_NAMED_MAX = 5
_END = (1_000, 0)
"""A number after the last lane, to take all remaining rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A lane's part of history: where its chain begins and ends. ``head`` None: the lane's row is gone."""

    lane: int
    after: int = 0
    hash: bytes | None = None
    up_to: int = ID_MAX
    head: LaneEnd | None


@dataclass(slots=True)
class _Place:
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


async def lanes_in(connection: Connection, span: Span) -> list[Lane]:
    """Each lane's part of a part of history."""
    rows = {row["lane"]: row for row in await connection.fetch(SQL["lanes"])}
    begun: dict[int, tuple[int, bytes | None]] = {lane: (row["chained_from"], None) for lane, row in rows.items()}
    if span.after is not None:
        begun |= {lane: (end.position, end.hash) for lane, end in span.after.lanes.items()}
    if span.up_to is not None:
        return [
            Lane(lane=lane, after=after, hash=stored, up_to=end.position, head=end)
            for lane, end in sorted(span.up_to.lanes.items())
            for after, stored in [begun.get(lane, (0, None))]
        ]
    named = {row["lane"] for row in await connection.fetch(SQL["lanes_of_batches"])}
    lanes = []
    for lane in sorted(named | set(begun)):
        after, stored = begun.get(lane, (0, None))
        row = rows.get(lane)
        head = None if row is None else LaneEnd(position=row["position"], hash=row["hash"], opened=0, closed=0)
        lanes.append(Lane(lane=lane, after=after, hash=stored, head=head))
    return lanes


async def lanes_unbroken(
    connection: Connection, copying: Connection, span: Span, lanes: Sequence[Lane]
) -> tuple[int, list[str]]:
    """Walk along these lanes' batches. ``copying``: a second connection with the same snapshot."""
    walked = _arrays(lanes)
    ids = (span.after_id, span.batched_up_to_id)
    async with ClaimRows(copying, *walked, *ids) as claims:
        refunds = connection.cursor(SQL["refunds"], *walked, *ids)
        asides = connection.cursor(SQL["asides"], *walked, False)
        walk = _Walk(claims, Rows(aiter(refunds)), Rows(aiter(asides)))
        at = {lane.lane: _Place(lane.lane, lane.after, lane.hash, lane.hash) for lane in lanes}
        async for batch in connection.cursor(SQL["batches"], *walked, prefetch=1_000):
            await _check_batch(walk, at[batch["lane"]], batch)
        await walk.skip(*_END)
    for lane in lanes:
        reached = at[lane.lane]
        walk.problems += (
            [f"lane {lane.lane}: only its batches are there"] if lane.head is None else _wrong_head(reached, lane.head)
        )
    return walk.examined, walk.problems


async def strays(connection: Connection, span: Span, lanes: Sequence[Lane]) -> list[str]:
    """Rows that belong to no batch, and changes from before this part that were retried in it.

    ``span``: one that has no end.
    """
    known = [lane for lane in lanes if lane.head is not None]
    numbers, after, _ = _arrays(known)
    problems = await stray_entries(connection, span, known)
    problems += [
        f"packet {row['packet_id']}: a row in quarantine at change {row['position']} belongs to no batch"
        for row in await connection.fetch(SQL["asides"], [], [], [], True)
    ]
    problems += [
        f"lane {row['lane']}: change {row['position']} was retried, and is not in the ledger as it was set aside"
        for row in await connection.fetch(SQL["not_retried"], numbers, after)
    ]
    return problems


async def stray_entries(connection: Connection, span: Span, lanes: Sequence[Lane]) -> list[str]:
    """Claims and refunds that belong to no batch."""
    numbers, after, _ = _arrays(lanes)
    ids = (span.after_id, span.seen_id, span.batched_up_to_id)
    return [
        f"entry {row['transfer_id']}: a {row['kind']} out of {row['from_account']} belongs to no batch"
        for row in await connection.fetch(SQL["strays"], numbers, after, *ids)
    ]


def _arrays(lanes: Sequence[Lane]) -> tuple[list[int], list[int], list[int]]:
    """The lanes as the statements take them: their numbers, the positions after which and up to which they are read."""
    return [lane.lane for lane in lanes], [lane.after for lane in lanes], [lane.up_to for lane in lanes]


async def begins(connection: Connection) -> str:
    """Names the chains that begin after the lane's first batch, because an older release wrote that batch."""
    late = [row for row in await connection.fetch(SQL["lanes"]) if row["chained_from"]]
    told = ", ".join(f"lane {row['lane']} from change {row['chained_from'] + 1} on" for row in late[:_NAMED_MAX])
    return f" ({told}{', ...' if len(late) > _NAMED_MAX else ''})" if late else ""


async def _check_batch(walk: _Walk, at: _Place, batch: asyncpg.Record) -> None:
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


def _wrong_head(at: _Place, head: LaneEnd) -> Iterator[str]:
    """Compare the lane's own row, or an anchor's, with the last batch."""
    if head.position > at.position:
        yield f"lane {at.lane}: the last batch, of changes {at.position + 1} to {head.position}, was removed"
    elif head.position < at.position:
        yield f"lane {at.lane}: its checkpoint is {head.position}, its batches go to {at.position}"
    elif head.hash not in (at.stored, at.expected):
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
