"""How far the ledger is behind, as seen from outside the persister: it must show most when the persister is dead."""

import asyncpg

from engine.errors import UnavailableError
from engine.events import UnreadableEventError, changes_of
from engine.lanes.reader import LaneReader
from engine.lanes.stream import EventStream
from engine.ledger.database import ledger_errors
from engine.observability import metrics
from engine.queries import load
from engine.recovery.serving import why_paused

LANES, SQL = load("lanes"), load("quarantine")


async def open_rows(source: asyncpg.Pool | asyncpg.Connection) -> dict[int, int]:
    """How many rows wait in quarantine, by lane; lanes without one are left out."""
    return {row["lane"]: row["open"] for row in await source.fetch(SQL["open_by_lane"])}


async def oldest_at_ms(stream: EventStream, lane: int, position: int) -> int | None:
    """When the change after a position was made; None if there is none. Raises UnreadableEventError."""
    waiting = await stream.page(lane, after=position, entries_max=1)
    if not waiting:
        return None
    (entry,) = waiting
    changes_of(entry.event, entry.position)  # which the persister asks for as well
    return entry.event.at_ms


async def measure(pool: asyncpg.Pool, store: LaneReader, stream: EventStream) -> None:
    """Set each lane's gauges, whatever the other lanes are like.

    Raises UnavailableError when Redis or Postgres does not answer.
    """
    with ledger_errors():
        lanes, waiting_rows = await pool.fetch(LANES["all"]), await open_rows(pool)
    now_ms, away = await store.now_ms(), None
    for row in lanes:
        metrics.QUARANTINE_OPEN.labels(str(row["lane"])).set(waiting_rows.get(row["lane"], 0))
        try:
            await _measure_lane(row, store, stream, now_ms)
        except UnavailableError as error:  # of this lane's keys, perhaps: the others are measured all the same
            away = error
    if away is not None:
        raise away


async def _measure_lane(row: asyncpg.Record, store: LaneReader, stream: EventStream, now_ms: int) -> None:
    label, status = str(row["lane"]), await store.lane_status(row["lane"])
    metrics.LANE_FENCED.labels(label).set(why_paused(row["epoch"], row["position"], status) is not None)
    if status is None:
        return
    metrics.PERSISTER_LAG_EVENTS.labels(label).set(status.position - row["position"])
    metrics.BACKLOG.labels(label).set(status.position - status.applied)
    try:
        oldest_ms = await oldest_at_ms(stream, row["lane"], row["position"])
    except UnreadableEventError:  # how old it is cannot be known, so the age stays as it was
        metrics.LANE_UNREADABLE.labels(label).set(1)
        return
    metrics.LANE_UNREADABLE.labels(label).set(0)
    metrics.PERSISTER_LAG_SECONDS.labels(label).set(0 if oldest_ms is None else max(0, now_ms - oldest_ms) / 1000)
