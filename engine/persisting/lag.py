"""How far the ledger is behind, measured outside the persister: it must also show if the persister is dead."""

import asyncio
import math
from collections.abc import Sequence

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
    with ledger_errors():
        lanes, waiting_rows = await pool.fetch(LANES["all"]), await open_rows(pool)
    for row in lanes:
        metrics.QUARANTINE_OPEN.labels(str(row["lane"])).set(waiting_rows.get(row["lane"], 0))
    rows = {row["lane"]: row for row in lanes}
    by_node = store.topology.by_node(rows)
    measured = await asyncio.gather(
        *(_measure_node([rows[lane] for lane in held], store, stream) for held in by_node.values())
    )
    for away in measured:
        if away is not None:
            raise away


async def _measure_node(
    rows: Sequence[asyncpg.Record], store: LaneReader, stream: EventStream
) -> UnavailableError | None:
    """Measure the lanes of one server. Returns the last failure; if the server has no time, nothing else is asked."""
    away: UnavailableError | None = None
    try:
        now_ms = await store.now_ms(rows[0]["lane"])
    except UnavailableError as error:
        for row in rows:
            metrics.LANE_FENCED.labels(str(row["lane"])).set(1)
        return error
    for row in rows:
        try:
            await _measure_lane(row, store, stream, now_ms)
        except UnavailableError as error:
            away = error
    return away


async def _measure_lane(row: asyncpg.Record, store: LaneReader, stream: EventStream, now_ms: int) -> None:
    lane, position = row["lane"], row["position"]
    label, status = str(lane), await store.lane_status(lane)
    metrics.LANE_FENCED.labels(label).set(why_paused(row["epoch"], position, status) is not None)
    look = await stream.look(lane, position)
    metrics.LANE_BAD_ENTRY.labels(label).set(_bad_position(look, position))
    if status is None:
        return
    metrics.PERSISTER_LAG_EVENTS.labels(label).set(status.position - position)
    metrics.BACKLOG.labels(label).set(status.position - status.applied)
    if look.oldest is None and look.is_broken and status.position > position:
        lag_s = math.nan  # the oldest event cannot be read, so its time is unknown
    else:
        oldest_ms = now_ms if look.oldest is None else look.oldest.event.at_ms
        lag_s = max(0, now_ms - oldest_ms) / 1000
    metrics.PERSISTER_LAG_SECONDS.labels(label).set(lag_s)


def _bad_position(look: Look, position: int) -> int:
    """The position at which the lane is stopped, or 0. A key that is not a stream stops it at its next change."""
    if look.bad is not None:
        return max(1, id_of(look.bad.entry_id)[0])
    return 0 if look.is_stream else position + 1
