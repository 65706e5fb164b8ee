"""What an operator sees of the lanes: where each is, how far it is, how busy, and how evenly the servers share them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic

import asyncpg

from engine.errors import UnavailableError
from engine.lanes import keys
from engine.lanes.reader import LaneReader, LaneStatus
from engine.lanes.stream import EventStream
from engine.lanes.topology import Node
from engine.ledger.database import ledger_errors
from engine.persisting.lag import LANES
from engine.recovery.epochs import WHY
from engine.recovery.serving import why_paused


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLine:
    """One lane. ``why_not``: why it does not serve, or None. The rest is None where it is not known.

    ``position``: changes ever emitted. ``behind``: those that the ledger lacks; the oldest is ``behind_s`` old.
    ``backlog``: those that are still in the stream. ``changes_per_second``: while it was looked at.
    """

    lane: int
    slot: int
    server: str
    why_not: str | None
    position: int | None = None
    behind: int | None = None
    behind_s: float | None = None
    backlog: int | None = None
    changes_per_second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLine:
    """One server's part of the lanes, and of what is done in them."""

    server: str
    lanes: int
    changes_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """All lanes, and the servers in the order of their lanes."""

    lanes: Sequence[LaneLine]
    servers: Sequence[ServerLine]

    @property
    def imbalance(self) -> float:
        """How many times the mean the busiest server has: of changes or, where there were none, of lanes. 1: even."""
        parts: list[float] = [server.changes_per_second for server in self.servers]
        if not sum(parts):
            parts = [server.lanes for server in self.servers]
        return max(parts) * len(parts) / sum(parts) if sum(parts) else 1.0


async def placement(
    pool: asyncpg.Pool, store: LaneReader, stream: EventStream, *, called: str, sample_s: float
) -> Placement:
    """Look at every lane of the ledger twice, ``sample_s`` apart. ``called``: what the server is called if it is the
    only one.

    Raises UnavailableError if Postgres does not answer. A server that does not answer is told of its lanes.
    """
    with ledger_errors():
        rows = {row["lane"]: row for row in await pool.fetch(LANES["all"])}
    by_node = store.topology.by_node(rows)
    before, began_s = await _positions(store, by_node), monotonic()
    await asyncio.sleep(sample_s)
    with ledger_errors():
        rows = {row["lane"]: row for row in await pool.fetch(LANES["all"]) if row["lane"] in rows}
    found = await asyncio.gather(*(_of_node([rows[lane] for lane in held], store, stream) for held in by_node.values()))
    passed_s = monotonic() - began_s
    lines = [
        _with_rate(replace(line, server=node.place or called), before.get(line.lane), passed_s)
        for node, of_node in zip(by_node, found, strict=True)
        for line in of_node
    ]
    lines.sort(key=lambda line: line.lane)
    by_server: dict[str, list[LaneLine]] = {}
    for line in lines:
        by_server.setdefault(line.server, []).append(line)
    servers = [
        ServerLine(
            server=server,
            lanes=len(held),
            changes_per_second=sum(line.changes_per_second or 0 for line in held),
        )
        for server, held in by_server.items()
    ]
    return Placement(lanes=lines, servers=servers)


def _with_rate(line: LaneLine, before: int | None, passed_s: float) -> LaneLine:
    if line.position is None or before is None or line.position < before:  # it was set back meanwhile
        return line
    return replace(line, changes_per_second=(line.position - before) / passed_s)


async def _positions(store: LaneReader, by_node: Mapping[Node, Sequence[int]]) -> dict[int, int]:
    async def of_node(lanes: Sequence[int]) -> dict[int, int]:
        found = dict[int, int]()
        for lane in lanes:
            try:
                status = await store.lane_status(lane)
            except UnavailableError:
                return found  # what does not answer is told by the second look
            if status is not None:
                found[lane] = status.position
        return found

    together: dict[int, int] = {}
    for found in await asyncio.gather(*map(of_node, by_node.values())):
        together |= found
    return together


async def _of_node(rows: Sequence[asyncpg.Record], store: LaneReader, stream: EventStream) -> list[LaneLine]:
    """The lanes of one server. Once it has not answered, nothing more is asked of it.

    The server is not named yet: in a cluster it is known once it was asked.
    """
    lines: list[LaneLine] = []
    why: str | None = None
    for row in rows:
        line = LaneLine(lane=row["lane"], slot=keys.slot(row["lane"]), server="", why_not=why)
        if why is None:
            try:
                line = await _looked_at(line, row, store, stream)
            except UnavailableError as error:
                why = str(error)
                line = replace(line, why_not=why)
        lines.append(line)
    return lines


async def _looked_at(line: LaneLine, row: asyncpg.Record, store: LaneReader, stream: EventStream) -> LaneLine:
    lane, position = line.lane, row["position"]
    status = await store.lane_status(lane)
    why = why_not(row, status)
    if status is None:
        return replace(line, why_not=why)
    look = await stream.look(lane, position)
    behind = max(0, status.position - position)
    behind_s = 0.0 if not behind else None
    if behind and look.oldest is not None:
        behind_s = max(0, await store.now_ms(lane) - look.oldest.event.at_ms) / 1_000
    if why is None and look.refuses:
        why = "Redis has a key of another type in the place of its stream" if look.bad is None else str(look.bad)
    return replace(
        line,
        why_not=why,
        position=status.position,
        behind=behind,
        behind_s=behind_s,
        backlog=status.position - status.applied,
    )


def why_not(row: asyncpg.Record, status: LaneStatus | None) -> str | None:
    """Why a lane does not serve, by its row in the ledger and what Redis says, or None."""
    if not row["begun"]:
        return "no process has begun it yet"
    paused = why_paused(row["epoch"], row["position"], status)
    return None if paused is None else WHY[paused].removeprefix("is ").removesuffix(".")
