"""Carries each lane's events into the ledger, in order, exactly once.

The checkpoint lives in the ledger and moves in the same transaction as the money, so a crash at any point replays or
skips nothing. Lanes are leased by Postgres advisory locks; even without them the checkpoint's row lock and its check
would make a second persister harmless.
"""

import asyncio
from collections.abc import Sequence

import asyncpg
import structlog

from engine import metrics
from engine.clients import database_connection
from engine.epochs import SQL
from engine.errors import HongbaoError, OperatorError
from engine.events import Change, changes_of
from engine.ledger import Ledger
from engine.settings import Settings
from engine.store import Store
from engine.stream import Entry, EventStream

LOG = structlog.get_logger()
_LEASES = 0x68B  # the advisory locks' namespace
_ENTRIES_PER_READ = 200
_BLOCK_MS = 200
_RETRY_S = 0.5
_PASSING = (HongbaoError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


class LaneBrokenError(HongbaoError):
    """The lane's stream does not continue the ledger: Redis lost events or was set back."""

    code = "lane_broken"


class Persister:
    """One lane's loop. ``run`` ends when ``stopping`` is set and nothing is left to apply."""

    def __init__(self, settings: Settings, store: Store, stream: EventStream, lane: int) -> None:
        self._settings, self._store, self._stream, self._lane = settings, store, stream, lane
        self._ledger = Ledger()
        self._retention_ms = settings.settled_retention_s * 1000
        self._label = str(lane)
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        """Lease the lane and follow its stream; what fails is logged, counted and tried again."""
        while True:
            try:
                connection = await database_connection(self._settings.database_url or "")
                try:
                    if await connection.fetchval(SQL["lease"], _LEASES, self._lane):
                        await self._follow(connection)
                finally:
                    await connection.close(timeout=5)
            except _PASSING as error:
                metrics.LOOP_ERRORS.labels("persister").inc()
                LOG.error("persister_error", lane=self._lane, error=str(error), error_type=type(error).__name__)
            if await _stopped_within(self.stopping, _RETRY_S):
                return

    async def _follow(self, connection: asyncpg.Connection) -> None:
        position: int = await connection.fetchval(SQL["checkpoint"], self._lane)
        await self._check_lane(position)
        await self._stream.discard_applied(self._lane, position, retention_ms=self._retention_ms)
        while True:
            block_ms = 1 if self.stopping.is_set() else _BLOCK_MS
            entries = await self._stream.read(self._lane, position, entries_max=_ENTRIES_PER_READ, block_ms=block_ms)
            if not entries and self.stopping.is_set():
                return
            position = await self._apply(connection, position, entries)
            await self._check_lane(position)

    async def _apply(self, connection: asyncpg.Connection, position: int, entries: Sequence[Entry]) -> int:
        """Apply entries, a bounded number of changes a transaction; gives the new position."""
        changes: list[Change] = []
        expected = position
        for number, entry in enumerate(entries, start=1):
            if entry.position - entry.event.changes != expected:
                await self._fence(f"after change {expected} comes an event that ends at {entry.position}")
            expected = entry.position
            changes += changes_of(entry.event, entry.position)
            if len(changes) >= self._settings.persist_batch_max or number == len(entries):
                applied = await self._ledger.apply(connection, self._lane, position, expected, changes)
                if applied.quarantined:
                    metrics.QUARANTINED.labels(self._label).inc(applied.quarantined)
                    LOG.error("quarantined", lane=self._lane, position=expected, changes=applied.quarantined)
                metrics.PERSISTED_EVENTS.labels(self._label).inc(expected - position)
                position, changes = expected, []
                await self._stream.discard(self._lane, position, applied.ended, retention_ms=self._retention_ms)
        return position

    async def _check_lane(self, checkpoint: int) -> None:
        """Look whether Redis still continues the ledger."""
        status = await self._store.lane_status(self._lane)
        if status is None:
            raise LaneBrokenError(f"Redis has lost lane {self._lane}; it is fenced.")
        if status.position < checkpoint:
            await self._fence(f"Redis is at change {status.position}, the ledger at {checkpoint}")

    async def _fence(self, reason: str) -> None:
        """Stop the lane from giving anything more: what it would give could not be carried into the ledger."""
        await self._store.fence(self._lane)
        raise LaneBrokenError(f"Lane {self._lane} is fenced: {reason}.")


async def _stopped_within(stopping: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return False
    return True


async def persist(
    settings: Settings, store: Store, stream: EventStream, lanes: Sequence[int], stop: asyncio.Event
) -> None:
    """Follow all lanes until ``stop`` is set; then apply what is left and return."""
    if settings.database_url is None:
        raise OperatorError("The persister needs HONGBAO_DATABASE_URL.")
    persisters = [Persister(settings, store, stream, lane) for lane in lanes]
    async with asyncio.TaskGroup() as group:
        for persister in persisters:
            group.create_task(persister.run())
        await stop.wait()
        for persister in persisters:
            persister.stopping.set()
