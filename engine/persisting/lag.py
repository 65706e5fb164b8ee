"""How far the ledger is behind, as seen from outside the persister: it must show most when the persister is dead."""

import asyncpg

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


async def measure(pool: asyncpg.Pool, store: LaneReader, stream: EventStream) -> None:
    """Set each lane's gauges. Raises UnavailableError when Redis or Postgres does not answer."""
    with ledger_errors():
        lanes, waiting_rows = await pool.fetch(LANES["all"]), await open_rows(pool)
    now_ms = await store.now_ms()
    for row in lanes:
        label, status = str(row["lane"]), await store.lane_status(row["lane"])
        metrics.QUARANTINE_OPEN.labels(label).set(waiting_rows.get(row["lane"], 0))
        metrics.LANE_FENCED.labels(label).set(why_paused(row["epoch"], row["position"], status) is not None)
        if status is None:
            continue
        waiting = await stream.page(row["lane"], after=row["position"], entries_max=1)
        oldest_ms = waiting[0].event.at_ms if waiting else now_ms
        metrics.PERSISTER_LAG_EVENTS.labels(label).set(status.position - row["position"])
        metrics.PERSISTER_LAG_SECONDS.labels(label).set(max(0, now_ms - oldest_ms) / 1000)
        metrics.BACKLOG.labels(label).set(status.position - status.applied)
