"""How far the ledger is behind, measured outside the persister: it must also show if the persister is dead."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

import asyncpg

from engine.errors import UnavailableError
from engine.lanes.entries import Look, id_of
from engine.lanes.reader import LaneReader
from engine.lanes.stream import EventStream
from engine.ledger.database import ledger_errors
from engine.observability import metrics
from engine.queries import load
from engine.recovery.epochs import WHY
from engine.recovery.serving import Paused, why_paused

LANES, SQL = load("lanes"), load("quarantine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """``events`` that the ledger has not applied, and the age of the oldest in seconds: NaN if it cannot be read.

    ``backlog``: changes in the lane's stream.
    """

    events: int
    seconds: float
    backlog: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLag:
    """One lane, as it was measured. ``bad_position``: of the entry that stops it, or 0.

    What is None could not be measured. A lane whose server does not answer is fenced.
    """

    lane: int
    quarantined: int
    is_fenced: bool = True
    bad_position: int | None = None
    behind: Behind | None = None


@dataclass(frozen=True, slots=True)
class Looked:
    """All lanes, and the last server's failure, if there was one."""

    lanes: Sequence[LaneLag]
    away: UnavailableError | None


async def open_rows(source: asyncpg.Pool | asyncpg.Connection) -> dict[int, int]:
    """How many rows are pending in quarantine, per lane. Lanes without one are left out."""
    return {row["lane"]: row["open"] for row in await source.fetch(SQL["open_by_lane"])}


async def changes_behind(pool: asyncpg.Pool, store: LaneReader) -> int:
    """How many changes of all lanes the ledger lacks or has set aside.

    Raises UnavailableError, also if a lane in Redis does not continue the ledger: its changes are unknown then.
    """
    with ledger_errors():
        lanes, behind = await pool.fetch(LANES["all"]), sum((await open_rows(pool)).values())
    for row in lanes:
        status = await store.lane_status(row["lane"]) if row["begun"] else None
        paused = why_paused(row["epoch"], row["position"], status) if row["begun"] else None
        if paused not in (None, Paused.UNVERIFIED, Paused.MOVING):
            raise UnavailableError(f"Lane {row['lane']} {WHY[paused]}")
        behind += 0 if status is None else status.position - row["position"]
    return behind


async def measure(pool: asyncpg.Pool, store: LaneReader, stream: EventStream) -> None:
    """Set each lane's gauges, even if another lane fails.

    Raises UnavailableError if Redis or Postgres does not answer.
    """
    looked = await look(pool, store, stream)
    for found in looked.lanes:
        label = str(found.lane)
        metrics.QUARANTINE_OPEN.labels(label).set(found.quarantined)
        metrics.LANE_FENCED.labels(label).set(found.is_fenced)
        if found.bad_position is not None:
            metrics.LANE_BAD_ENTRY.labels(label).set(found.bad_position)
        if found.behind is not None:
            metrics.PERSISTER_LAG_EVENTS.labels(label).set(found.behind.events)
            metrics.PERSISTER_LAG_SECONDS.labels(label).set(found.behind.seconds)
            metrics.BACKLOG.labels(label).set(found.behind.backlog)
    if looked.away is not None:
        raise looked.away


async def look(pool: asyncpg.Pool, store: LaneReader, stream: EventStream) -> Looked:
    """Measure each lane. Raises UnavailableError if Postgres does not answer."""
    with ledger_errors():
        lanes, waiting_rows = await pool.fetch(LANES["all"]), await open_rows(pool)
    rows = {row["lane"]: row for row in lanes}
    by_node = store.topology.by_node(rows)
    measured = await asyncio.gather(
        *(_look_at_node([rows[lane] for lane in held], waiting_rows, store, stream) for held in by_node.values())
    )
    found = [lane for node in measured for lane in node.lanes]
    aways = [node.away for node in measured if node.away is not None]
    return Looked(sorted(found, key=attrgetter("lane")), aways[-1] if aways else None)


async def _look_at_node(
    rows: Sequence[asyncpg.Record], quarantined: Mapping[int, int], store: LaneReader, stream: EventStream
) -> Looked:
    """Measure the lanes of one server. If it has no time, nothing else is asked: all its lanes are fenced."""
    found = {row["lane"]: LaneLag(lane=row["lane"], quarantined=quarantined.get(row["lane"], 0)) for row in rows}
    try:
        now_ms = await store.now_ms(rows[0]["lane"])
    except UnavailableError as error:
        return Looked(list(found.values()), error)
    away: UnavailableError | None = None
    for row in rows:
        try:
            found[row["lane"]] = await _look_at_lane(row, found[row["lane"]], store, stream, now_ms)
        except UnavailableError as error:
            away = error
    return Looked(list(found.values()), away)


async def _look_at_lane(
    row: asyncpg.Record, unknown: LaneLag, store: LaneReader, stream: EventStream, now_ms: int
) -> LaneLag:
    lane, position = row["lane"], row["position"]
    status = await store.lane_status(lane)
    look = await stream.look(lane, position)
    behind: Behind | None = None
    if status is not None:
        if look.oldest is None and look.is_broken and status.position > position:
            lag_s = math.nan  # the oldest event cannot be read, so its time is unknown
        else:
            oldest_ms = now_ms if look.oldest is None else look.oldest.event.at_ms
            lag_s = max(0, now_ms - oldest_ms) / 1000
        behind = Behind(events=status.position - position, seconds=lag_s, backlog=status.position - status.applied)
    return replace(
        unknown,
        is_fenced=why_paused(row["epoch"], position, status) is not None,
        bad_position=_bad_position(look, position),
        behind=behind,
    )


def _bad_position(look: Look, position: int) -> int:
    """The position at which the lane is stopped, or 0. A key that is not a stream stops it at its next change."""
    if look.bad is not None:
        return max(1, id_of(look.bad.entry_id)[0])
    return 0 if look.is_stream else position + 1
