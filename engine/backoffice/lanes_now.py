"""The lanes at this moment: the ledger's side and Redis's, and the last entries of a lane's stream."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import asyncpg

from engine.backoffice.packet_file import SQL
from engine.errors import UnavailableError
from engine.events import Change, Claims, Ending
from engine.lanes.entries import BadEntryError, Entry, entry_in
from engine.lanes.reader import LaneReader
from engine.lanes.stream import EventStream
from engine.ledger.database import ledger_errors
from engine.persisting.lag import LANES
from engine.persisting.lane_lines import why_not

PEEKED_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneNow:
    """One lane. ``checkpoint``: the ledger's position. What is None is not known.

    ``why_not``: why it does not serve. ``behind``: changes that the ledger lacks; the oldest is ``behind_s`` old.
    ``backlog``: those that Redis thinks the ledger lacks, by ``applied``.
    """

    lane: int
    epoch: str
    server: str
    checkpoint: int
    why_not: str | None = None
    position: int | None = None
    applied: int | None = None
    behind: int | None = None
    behind_s: float | None = None
    backlog: int | None = None

    @property
    def serves(self) -> bool:
        """Whether it serves."""
        return self.why_not is None


class EntrySum(NamedTuple):
    """What an entry moves of an asset. ``asset`` None: of money."""

    fen: int
    asset: str | None
    scale: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeekedEntry:
    """One entry of a stream. ``problem``: why it is none of the lane's events; the rest is empty then.

    ``sums``: what it moves of each asset, of money first.
    """

    entry_id: str
    kind: str
    packets: tuple[str, ...] = ()
    at_ms: int | None = None
    changes: int = 0
    sums: tuple[EntrySum, ...] = ()
    is_applied: bool = False
    problem: str | None = None


async def lanes_now(pool: asyncpg.Pool, store: LaneReader, stream: EventStream) -> list[LaneNow]:
    """Every lane of the ledger. Raises UnavailableError for Postgres. A server that is away is told of its lanes."""
    with ledger_errors():
        rows = {row["lane"]: row for row in await pool.fetch(LANES["all"])}
    by_node = store.topology.by_node(rows)
    found = await asyncio.gather(
        *(_of_node(node.place, [rows[lane] for lane in held], store, stream) for node, held in by_node.items())
    )
    return sorted((line for lines in found for line in lines), key=lambda line: line.lane)


async def _of_node(
    server: str, rows: Sequence[asyncpg.Record], store: LaneReader, stream: EventStream
) -> list[LaneNow]:
    lines: list[LaneNow] = []
    why: str | None = None
    for row in rows:
        known = {"lane": row["lane"], "epoch": row["epoch"], "server": server, "checkpoint": row["position"]}
        if why is None:
            try:
                lines.append(await _look(known, row, store, stream))
                continue
            except UnavailableError as error:
                why = str(error)
        lines.append(LaneNow(**known, why_not=why))
    return lines


async def _look(known: dict[str, object], row: asyncpg.Record, store: LaneReader, stream: EventStream) -> LaneNow:
    lane, checkpoint = row["lane"], row["position"]
    status = await store.lane_status(lane)
    why = why_not(row, status)
    if status is None:
        return LaneNow(**known, why_not=why)  # type: ignore[arg-type]  # the names above
    look = await stream.look(lane, checkpoint)
    behind = max(0, status.position - checkpoint)
    behind_s = None if behind else 0.0
    if behind and look.oldest is not None:
        behind_s = max(0, await store.now_ms(lane) - look.oldest.event.at_ms) / 1_000
    if why is None and look.is_broken:
        why = "Redis has a key of another type in the place of its stream" if look.bad is None else str(look.bad)
    return LaneNow(
        **known,  # type: ignore[arg-type]  # the names above
        why_not=why,
        position=status.position,
        applied=status.applied,
        behind=behind,
        behind_s=behind_s,
        backlog=status.position - status.applied,
    )


async def peek(pool: asyncpg.Pool, stream: EventStream, lane: int, *, limit: int = PEEKED_MAX) -> list[PeekedEntry]:
    """The last entries of a lane's stream, newest first. Empty for an unknown lane. Raises UnavailableError."""
    with ledger_errors():
        checkpoint = await pool.fetchval(LANES["checkpoint"], lane)
    if checkpoint is None:
        return []
    read: list[tuple[str, Entry | str]] = []
    for raw in await stream.newest(lane, min(limit, PEEKED_MAX)):
        try:
            read.append((raw.entry_id, entry_in(lane, raw)))
        except BadEntryError as error:
            read.append((raw.entry_id, error.why))
    numbers = {change.packet for _, entry in read if isinstance(entry, Entry) for change in entry.changes}
    with ledger_errors():
        rows = await pool.fetch(SQL["assets"], list(numbers))
    assets = {row["packet_id"]: (row["asset"], row["scale"]) for row in rows}
    return [
        PeekedEntry(entry_id=entry_id, kind="unreadable", problem=entry)
        if isinstance(entry, str)
        else _peeked(entry_id, entry, assets, checkpoint)
        for entry_id, entry in read
    ]


def _peeked(entry_id: str, entry: Entry, assets: Mapping[int, tuple[str, int]], checkpoint: int) -> PeekedEntry:
    sums: dict[tuple[str | None, int | None], int] = {}
    for change in entry.changes:
        of = assets.get(change.packet, (None, None))
        sums[of] = sums.get(of, 0) + _moved_fen(change)
    return PeekedEntry(
        entry_id=entry_id,
        kind=type(entry.event).__name__.removesuffix("Event").lower(),
        packets=tuple(dict.fromkeys(str(change.packet) for change in entry.changes)),
        at_ms=entry.event.at_ms,
        changes=entry.event.changes,
        sums=tuple(EntrySum(fen, *of) for of, fen in sorted(sums.items(), key=lambda found: found[0][0] or "")),
        is_applied=entry.position <= checkpoint,
    )


def _moved_fen(change: Change) -> int:
    if isinstance(change, Claims):
        return sum(change.amounts_fen)
    return change.remaining_fen if isinstance(change, Ending) else 0
