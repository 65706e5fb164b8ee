"""Carries each lane's events into the ledger, in order, exactly once.

The checkpoint is kept in the ledger and moves in the same transaction as the money. So a crash at any point neither
repeats nor skips a change. Postgres advisory locks lease the lanes. Even without them, the checkpoint's row lock and
check would make a second persister harmless.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

import asyncpg
import structlog

from engine.claiming.checkpoints import is_awaited
from engine.errors import HongbaoError, OperatorError, UnavailableError
from engine.events import Change
from engine.lanes.entries import BadEntryError, Entry, id_of, name_of, uncounted
from engine.lanes.store import Store
from engine.lanes.stream import EventStream, joined
from engine.ledger.database import database_connection
from engine.ledger.failures import DATABASE_ERRORS
from engine.ledger.posting import PLANNED, Applied, CheckpointMovedError, Ledger
from engine.loops import outlived, stopped_within
from engine.observability import metrics
from engine.persisting.tail import Discard, Tail
from engine.records import Ack
from engine.recovery.bad_entries import SET_ASIDE, clear_way, first_bad
from engine.recovery.epochs import SQL
from engine.recovery.fencing import LaneChangedError
from engine.recovery.gate import LEASES, LaneBrokenError, LaneDoubtfulError, verify
from engine.recovery.recovery import Recovery
from engine.settings import Settings

LOG = structlog.get_logger()
BATCH_MAX = 100_000
"""One transaction commits at most this many changes and one more event."""
_ENTRIES_PER_READ = 400
_BLOCK_MS = 200
RETRY_S = 0.5
_LOOK_S = 0.1
"""A Redis that does not answer is tried again this soon. Once it is back, its lanes pause until they are compared."""
_BEHIND_CHANGES_MIN = 20_000
"""Fewer are no backlog: the next transaction waits a moment, so that it costs less per claim."""
_LINGER_S = 0.05
_PASSING = (HongbaoError, *DATABASE_ERRORS)


class Persister:
    """One lane's loop. ``run`` ends when ``stopping`` is set and nothing is left to apply."""

    def __init__(self, settings: Settings, store: Store, stream: EventStream, lane: int) -> None:
        self._settings, self._store, self._stream, self._lane = settings, store, stream, lane
        self._ledger = Ledger()
        self._tail: Tail | None = None
        self._retention_ms = settings.settled_retention_s * 1000
        self._label = str(lane)
        for counter in (metrics.PERSISTED_EVENTS, metrics.QUARANTINED, metrics.RECOVERIES):
            metrics.show(counter, self._label)
        metrics.show(metrics.LOOP_ERRORS, "persister")
        self._is_away = False
        self._seen: int | None = None  # the highest position seen in Redis
        self._stopped_at: tuple[str, str] | None = None  # the bad entry that was reported last
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        """Lease the lane and follow its stream. Failures are logged, counted and retried."""
        while True:
            try:
                connection = await database_connection(self._settings.database_url or "", PLANNED)
                try:
                    # Another Postgres may answer now. It may have given the ids of these wallets to others.
                    self._ledger = Ledger()
                    self._tail = Tail(connection, self._settings.standbys) if self._settings.standbys else None
                    if await connection.fetchval(SQL["lease"], LEASES, self._lane):
                        await self._hold(connection)
                finally:
                    await connection.close(timeout=5)
            except BadEntryError as error:
                self._tell_bad_entry(error)
            except _PASSING as error:
                self._complain(error)
            if await stopped_within(self.stopping, RETRY_S):
                return

    async def _hold(self, connection: asyncpg.Connection) -> None:
        """Follow the lane while this process has its lease, through Redis's absences and the lane's rebuilding."""
        while True:
            try:
                return await self._follow(connection)
            except LaneChangedError:
                if self.stopping.is_set():  # the wait below ends at once, and a lane that is being moved takes a while
                    await asyncio.sleep(_LOOK_S)
            except UnavailableError as error:
                if self.stopping.is_set():
                    raise
                if not self._is_away:
                    self._complain(error)
                self._is_away = True
            except LaneBrokenError as error:
                if self.stopping.is_set() or not self._settings.recover_automatically:
                    raise
                await self._recover(connection, error)
            await stopped_within(self.stopping, _LOOK_S)

    def _complain(self, error: Exception) -> None:
        outlived("persister", error, lane=self._lane)

    def _tell_bad_entry(self, error: BadEntryError) -> None:
        """Report once which entry stops the lane. It is looked at again until it is gone or a release can read it."""
        if self._stopped_at == (error.entry_id, error.why):
            return
        self._stopped_at = (error.entry_id, error.why)
        metrics.LOOP_ERRORS.labels("persister").inc()
        LOG.error(
            "unreadable_event",
            lane=self._lane,
            position=id_of(error.entry_id)[0],
            entry=error.entry_id,
            found=error.why,
            error=str(error),
            error_type=type(error).__name__,
            advice=SET_ASIDE,
        )

    async def _recover(self, connection: asyncpg.Connection, error: LaneBrokenError) -> None:
        if isinstance(error, LaneDoubtfulError):
            raise error
        self._complain(error)
        recovery = Recovery(connection, self._store, self._stream, self._lane, seen=self._seen)
        recovered = await recovery.run(str(error))
        self._seen = None
        LOG.warning("lane_recovered", **asdict(recovered))

    async def _follow(self, connection: asyncpg.Connection) -> None:
        position, lane_token = await verify(connection, self._store, self._stream, self._lane)
        discard = self._discard_up_to(position)
        await (discard() if self._tail is None else self._tail.add(discard, discard))
        reading = self._read_after(position)
        try:
            while True:
                emitted = await self._check_lane(connection, lane_token, position)
                entries = await reading
                if not entries and position < emitted:  # the entries came after the read returned, or are gone
                    entries = await self._read_after(position)
                if entries and entries[-1].position > emitted:  # they came after the lane was looked at
                    emitted, entries = await self._counted(connection, lane_token, position, entries)
                joining = joined(position, entries)
                # A full read says that more is there. Small entries make it full long before the changes are many.
                behind = emitted - position > _BEHIND_CHANGES_MIN or len(entries) >= _ENTRIES_PER_READ
                if behind:  # the next entries are read and decoded while Postgres works on these
                    reading = self._read_after(joining[-1].position if joining else position)
                position = await self._apply(connection, lane_token, position, joining)
                if len(joining) < len(entries):
                    await self._stop_before(entries[len(joining)], connection, position)
                if not entries and position < emitted:
                    reason = f"the stream holds nothing of changes {position} to {emitted}"
                    await self._fence(connection, position, reason)
                if not entries and self.stopping.is_set():
                    return
                if not entries:
                    await self._clear_way(position)
                if not behind:
                    # A transaction costs as much as some hundred claims. Wait for more before the next one, unless a
                    # claim waits for the ledger.
                    linger_s = _LINGER_S if entries and not await self._is_awaited(connection) else 0
                    await stopped_within(self.stopping, linger_s)
                    reading = self._read_after(position)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _stop_before(self, entry: Entry, connection: asyncpg.Connection, position: int) -> None:
        """Stop at an event that does not follow the last one: it is not the lane's, or entries before it are gone."""
        if (bad := await first_bad(self._stream, self._lane, position)) is not None:
            raise bad.error
        await self._fence(connection, position, f"after change {position} comes an event that ends at {entry.position}")

    async def _clear_way(self, position: int) -> None:
        self._stopped_at = None
        if await clear_way(self._store.client_of(self._lane), self._stream, self._lane):
            LOG.warning("stream_cleared", lane=self._lane, position=position)

    async def _counted(
        self, connection: asyncpg.Connection, lane_token: str, position: int, entries: list[Entry]
    ) -> tuple[int, list[Entry]]:
        """The lane's position now, and the entries that it has counted. Raises BadEntryError if there are none."""
        try:
            emitted = await self._check_lane(connection, lane_token, position)
        except (UnavailableError, LaneChangedError):
            self._seen = max(self._seen or 0, entries[-1].position)
            raise
        counted = [entry for entry in entries if entry.position <= emitted]
        if not counted:
            raise uncounted(self._lane, name_of((entries[0].position, 0)), emitted)
        return emitted, counted

    def _read_after(self, position: int) -> "asyncio.Task[list[Entry]]":
        block_ms = 1 if self.stopping.is_set() else _BLOCK_MS
        read = self._stream.read(self._lane, position, entries_max=_ENTRIES_PER_READ, block_ms=block_ms)
        return asyncio.create_task(read)

    async def _apply(
        self, connection: asyncpg.Connection, lane_token: str, position: int, entries: Sequence[Entry]
    ) -> int:
        """Apply entries without a gap, a bounded number of changes per transaction. Returns the new position."""
        changes: list[Change] = []
        discarding: asyncio.Task[None] | None = None
        if self._tail is not None:
            await self._tail.trim()
        try:
            for number, entry in enumerate(entries, start=1):
                changes += entry.changes
                if entry.position - position < BATCH_MAX and number < len(entries):
                    continue
                applied = await self._ledger.apply(
                    connection, self._lane, position, entry.position, changes, lane_token=lane_token
                )
                self._note(applied, entry.position - position)
                position, changes = entry.position, []
                if discarding is not None:
                    await discarding
                # Redis drops them while Postgres works on the next ones.
                discard = partial(
                    self._stream.discard, self._lane, position, applied.ended, retention_ms=self._retention_ms
                )
                if self._tail is not None:
                    await self._tail.add(discard, self._discard_up_to(position))
                else:
                    discarding = asyncio.create_task(discard())
        finally:
            if discarding is not None:
                await discarding
        return position

    def _discard_up_to(self, position: int) -> Discard:
        """Discards what the ledger had at this position, whoever has brought it there."""
        return partial(self._stream.discard_applied, self._lane, position, retention_ms=self._retention_ms)

    async def _is_awaited(self, connection: asyncpg.Connection) -> bool:
        return self._settings.ack is Ack.LEDGER or await is_awaited(connection, self._lane)

    def _note(self, applied: Applied, changes: int) -> None:
        metrics.PERSISTED_EVENTS.labels(self._label).inc(changes)
        if applied.quarantined:
            metrics.QUARANTINED.labels(self._label).inc(applied.quarantined)
            LOG.error("quarantined", lane=self._lane, position=applied.position, changes=applied.quarantined)

    async def _check_lane(self, connection: asyncpg.Connection, lane_token: str, checkpoint: int) -> int:
        """Check that Redis still continues the ledger. Returns its position."""
        status = await self._store.lane_status(self._lane)
        self._is_away = False
        if status is None or status.lane_token != lane_token or not status.is_verified:
            raise LaneChangedError(f"Lane {self._lane} has changed since it was verified.")
        if status.position < checkpoint:
            await self._fence(
                connection, checkpoint, f"Redis is at change {status.position}, the ledger at {checkpoint}"
            )
        if self._seen is not None and status.position < self._seen:
            # Redis was restarted without its last changes, and the ledger did not have them yet.
            LOG.error("changes_lost", lane=self._lane, changes=self._seen - status.position, position=status.position)
        self._seen = status.position
        return status.position

    async def _fence(self, connection: asyncpg.Connection, position: int, reason: str) -> None:
        """Stop the lane from giving more shares: they could not be carried into the ledger."""
        if await connection.fetchval(SQL["checkpoint"], self._lane) != position:
            # Another persister has applied and trimmed the missing entries: the lane is fine, this persister is late.
            raise CheckpointMovedError(f"Lane {self._lane} is no longer at {position}.")
        await self._store.fence(self._lane)
        raise LaneBrokenError(f"Lane {self._lane} is fenced: {reason}.")


async def persist(
    settings: Settings, store: Store, stream: EventStream, lanes: Sequence[int], stop: asyncio.Event
) -> None:
    """Follow all lanes until ``stop`` is set. Then apply what is left and return."""
    if settings.database_url is None:
        raise OperatorError("The persister needs HONGBAO_DATABASE_URL.")
    persisters = [Persister(settings, store, stream, lane) for lane in lanes]
    async with asyncio.TaskGroup() as group:
        for persister in persisters:
            group.create_task(persister.run())
        await stop.wait()
        for persister in persisters:
            persister.stopping.set()
