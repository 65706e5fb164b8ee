"""How far the ledger is behind, as seen from outside the persister: it must show most when the persister is dead."""

import asyncpg

from engine import metrics
from engine.clients import ledger_errors
from engine.queries import load
from engine.store import Store
from engine.stream import EventStream

LANES = load("lanes")


async def measure(pool: asyncpg.Pool, store: Store, stream: EventStream) -> None:
    """Set each lane's lag and backlog gauges. Raises UnavailableError when Redis or Postgres does not answer."""
    with ledger_errors():
        lanes = await pool.fetch(LANES["all"])
    now_ms = await store.now_ms()
    for row in lanes:
        label, status = str(row["lane"]), await store.lane_status(row["lane"])
        if status is None:
            continue  # lost; /readyz says so
        waiting = await stream.page(row["lane"], after=row["position"], entries_max=1)
        oldest_ms = waiting[0].event.at_ms if waiting else now_ms
        metrics.PERSISTER_LAG_EVENTS.labels(label).set(status.position - row["position"])
        metrics.PERSISTER_LAG_SECONDS.labels(label).set(max(0, now_ms - oldest_ms) / 1000)
        metrics.BACKLOG.labels(label).set(status.position - status.applied)
