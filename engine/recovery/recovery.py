"""Rebuilds a lane from the ledger if Redis has lost it or holds an older state. Other lanes serve meanwhile.

This order makes a crash harmless: at any point it leaves the lane fenced, and a second run finishes the work.

1. The lane is fenced, and the entries of its stream after the checkpoint go into the ledger.
2. The ledger gets a new epoch for the lane. What was read under the old epoch can no longer be committed, and a
   process that knows only the old epoch gets no answer.
3. The lane's leftovers are removed from Redis, and its open packets are written (``engine.recovery.rebuild``).
4. One write of the lane's token lets it serve.

Claims are lost if Redis had not kept their events and the ledger never got them.
"""

import secrets
import time
from dataclasses import dataclass, replace

import asyncpg
import structlog

from engine.errors import OperatorError
from engine.lanes import keys
from engine.lanes.connections import lane_token_of
from engine.lanes.entries import BadEntryError
from engine.lanes.reader import LaneStatus
from engine.lanes.store import Store
from engine.lanes.stream import EventStream, joined
from engine.ledger.database import database_connection
from engine.ledger.posting import PLANNED, CheckpointMovedError, Ledger
from engine.observability import metrics
from engine.queries import load
from engine.recovery import fencing, gate
from engine.recovery.bad_entries import SET_ASIDE, clear_way, first_bad
from engine.recovery.fencing import FENCED, REBUILDING, LaneChangedError, set_lane_token, write_if
from engine.recovery.rebuild import LaneWriter, Rebuilt, rebuild_barred, rebuild_packets
from engine.settings import Settings

LOG = structlog.get_logger()
SQL = load("recovery")
_ENTRIES_PER_TRANSACTION = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What a recovery did.

    ``changes_lost``: at least this many changes in Redis never reached the ledger. None if unknown.
    """

    lane: int
    reason: str
    packets: int
    claims: int
    shares_left: int
    changes_lost: int | None
    seconds: float


async def mend(settings: Settings, store: Store, stream: EventStream, lane: int, *, force: bool) -> Recovered | None:
    """Take a lane's lease and make the lane serve: verify it if possible (returns None), otherwise rebuild it.

    Raises as ``Recovery.run`` does, and OperatorError if another process holds the lease or an entry of the stream must
    be set aside first.
    """
    connection = await database_connection(settings.database_url or "", PLANNED)
    try:
        if not force:
            await _check_stream(connection, stream, lane)
            if await _is_in_order(connection, store, stream, lane):
                return None  # the lane is fine, and its persister keeps the lease
        await gate.wait_for_lease(connection, lane)
        try:
            position, _ = await gate.verify(connection, store, stream, lane)
            if force:
                await stream.joins_up_to(lane, position)
            await clear_way(store.client_of(lane), stream, lane)
        except gate.LaneDoubtfulError as error:
            if not force:
                raise OperatorError(f"{error} To rebuild Redis from the ledger anyway, add --force.") from None
            reason = str(error)
        except (gate.LaneBrokenError, BadEntryError) as error:
            if isinstance(error, BadEntryError) and not force:
                raise
            reason = str(error)
        else:
            return None
        return await Recovery(connection, store, stream, lane, force=force).run(reason)
    finally:
        await connection.close(timeout=5)


async def _check_stream(connection: asyncpg.Connection, stream: EventStream, lane: int) -> None:
    row = await gate.ledger_lane(connection, lane)
    if (bad := await first_bad(stream, lane, row.position)) is not None:
        raise OperatorError(f"{bad}. Rebuilding would lose the entries after it: set it aside first. {SET_ASIDE}")


async def _is_in_order(connection: asyncpg.Connection, store: Store, stream: EventStream, lane: int) -> bool:
    row = await gate.ledger_lane(connection, lane)
    if (await stream.look(lane, row.position)).refuses:
        return False
    status = await store.lane_status(lane)
    is_ours = status is not None and status.lane_token == lane_token_of(row.epoch, status.server)
    return is_ours and status is not None and status.position >= row.position


async def carry_over(
    connection: asyncpg.Connection,
    stream: EventStream,
    lane: int,
    position: int,
    *,
    lane_token: str,
    up_to: int | None = None,
) -> None:
    """Apply the entries of a lane's stream after its checkpoint, up to the first gap.

    Only for the holder of its lease. Raises BadEntryError once everything before a bad entry is applied.
    """
    ledger = Ledger()
    while True:
        page = await stream.page(lane, after=position, up_to=up_to, entries_max=_ENTRIES_PER_TRANSACTION)
        entries = joined(position, page)
        if not entries:
            return
        changes = [change for entry in entries for change in entry.changes]
        await ledger.apply(connection, lane, position, entries[-1].position, changes, lane_token=lane_token)
        position = entries[-1].position


class Recovery:
    """One lane's recovery. ``connection`` holds the lane's lease. ``seen``: the last known position in Redis.

    ``force``: rebuild even if the ledger may be wrong, and drop events that cannot be read.
    """

    def __init__(
        self,
        connection: asyncpg.Connection,
        store: Store,
        stream: EventStream,
        lane: int,
        *,
        seen: int | None = None,
        force: bool = False,
    ) -> None:
        self._connection, self._store, self._stream, self._lane = connection, store, stream, lane
        self._seen, self._force = seen, force

    async def run(self, reason: str) -> Recovered:
        """Rebuild the lane. Raises LaneDoubtfulError, and LaneChangedError or CheckpointMovedError if disturbed."""
        started_s, client = time.monotonic(), self._store.client_of(self._lane)
        server = await fencing.run_id(client)  # first: everything read later comes from this server or a later one
        tokens, _ = await fencing.lane_tokens(client, [self._lane])
        lane_token = tokens[self._lane]
        status = await self._store.lane_status(self._lane)
        if status is not None and fencing.moving_until_ms(status) is not None:  # its mover has died
            status = replace(status, epoch=fencing.epoch_in(status))
        row = await gate.ledger_lane(self._connection, self._lane)
        if status is not None and not self._force:
            doubt = await gate.why_doubtful(self._connection, self._lane, row, status)
            if doubt is not None:
                raise gate.LaneDoubtfulError(doubt)
        position = row.position
        if status is not None and status.epoch.removeprefix(FENCED) == row.epoch:
            if (status.server, status.lane_token) != (server, lane_token):
                raise LaneChangedError(f"Lane {self._lane} has changed during the check.")
            lane_token = FENCED + row.epoch
            await set_lane_token(client, self._lane, status, lane_token)
            position = await self._carry_over(position, lane_token_of(row.epoch, row.run_id))
        lost = self._changes_lost(status, row.epoch, position)
        epoch, recovery_id = await self._new_epoch(row.epoch, position, server, reason, lost)
        rebuilt = await self._rebuild(lane_token, epoch, position, server)
        await self._connection.execute(SQL["end"], recovery_id, rebuilt.packets, rebuilt.claims, rebuilt.shares_left)
        metrics.RECOVERIES.labels(str(self._lane)).inc()
        return Recovered(
            lane=self._lane,
            reason=reason,
            packets=rebuilt.packets,
            claims=rebuilt.claims,
            shares_left=rebuilt.shares_left,
            changes_lost=lost,
            seconds=time.monotonic() - started_s,
        )

    async def _carry_over(self, position: int, lane_token: str) -> int:
        """Apply the stream's entries after the checkpoint, up to the first gap. Returns the new checkpoint."""
        try:
            await carry_over(self._connection, self._stream, self._lane, position, lane_token=lane_token)
        except BadEntryError:
            if not self._force:
                raise
            LOG.exception("unreadable_event_given_up", lane=self._lane, position=position)
        return (await gate.ledger_lane(self._connection, self._lane)).position

    def _changes_lost(self, status: LaneStatus | None, epoch: str, position: int) -> int | None:
        known = [] if self._seen is None else [self._seen]
        if status is not None and status.epoch.removeprefix(FENCED) == epoch and status.position >= position:
            known.append(status.position)
        return max(0, max(known) - position) if known else None

    async def _new_epoch(
        self, epoch_before: str, position: int, server: str, reason: str, lost: int | None
    ) -> tuple[str, int]:
        """After this commit, what was read under the previous epoch can no longer be committed."""
        epoch = secrets.token_hex(16)
        async with self._connection.transaction():
            (locked,) = await self._connection.fetch(SQL["lock"], self._lane)
            if (locked["epoch"], locked["position"]) != (epoch_before, position):
                raise CheckpointMovedError(f"Another process is working on lane {self._lane}.")
            values = (self._lane, epoch_before, epoch, position, reason, lost)
            recovery_id = await self._connection.fetchval(SQL["begin"], *values)
            await self._connection.execute(SQL["new_epoch"], self._lane, epoch, server)
        return epoch, recovery_id

    async def _rebuild(self, lane_token: str | None, epoch: str, position: int, server: str) -> Rebuilt:
        client = self._store.client_of(self._lane)
        lane_key, rebuilding = keys.lane(self._lane), REBUILDING + epoch
        fields = ("epoch", rebuilding, "position", position, "applied", position)
        # Replace the whole key: it may be of another type.
        await write_if(client, self._lane, lane_token, server, [("UNLINK", lane_key), ("HSET", lane_key, *fields)])
        async for names in fencing.leftovers(client, self._lane, server):
            await write_if(client, self._lane, rebuilding, server, [("UNLINK", *names)])
        writer = LaneWriter(client, self._lane, rebuilding, server)
        await rebuild_barred(self._connection, writer, self._lane)
        rebuilt = await rebuild_packets(self._connection, writer, self._lane)
        # This write fails if the server was restarted in between: it might have lost some of the data then.
        fields = ("epoch", lane_token_of(epoch, server), "position", position, "applied", position)
        await write_if(client, self._lane, rebuilding, server, [("HSET", lane_key, *fields)])
        return rebuilt
