"""The check before a lane serves: its data in Redis must continue the ledger, on the very server that was looked at.

A Redis that restarts, or another one in its place, may hold older data under the same epoch. So a lane token also names
the Redis process (``engine.lanes.connections.lane_token_of``). After a restart every lane refuses until the holder of
its lease has compared it with the ledger and written the new token. The ledger records the token first. Then an older
persister can no longer commit what it has read.
"""

from dataclasses import replace
from typing import NamedTuple

import asyncpg

from engine.errors import HongbaoError, OperatorError
from engine.lanes.connections import lane_token_of
from engine.lanes.reader import LaneStatus
from engine.lanes.store import Store
from engine.lanes.stream import EventStream
from engine.ledger.posting import CheckpointMovedError
from engine.queries import load
from engine.recovery.fencing import FENCED, LaneChangedError, epoch_in, is_moving, moving_until_ms, set_lane_token
from engine.recovery.rebuild import refreeze

SQL = load("lanes")
_LEASE_S_MAX = 30.0
LEASES = 0x68B
"""The namespace of the lanes' leases among Postgres's advisory locks."""


class LaneBrokenError(HongbaoError):
    """The lane in Redis does not continue the ledger: Redis lost it, lost events, or was set back."""

    code = "lane_broken"


class LaneDoubtfulError(LaneBrokenError):
    """The same, but the ledger may be wrong instead: only an operator may order a rebuild."""

    code = "lane_doubtful"


class LedgerLane(NamedTuple):
    """A lane in the ledger: its epoch, the Redis process on which it was verified, its checkpoint."""

    epoch: str
    run_id: str
    position: int


async def ledger_lane(connection: asyncpg.Connection, lane: int) -> LedgerLane:
    """Read a lane from the ledger."""
    (row,) = await connection.fetch(SQL["lane"], lane)
    return LedgerLane(**row)


async def wait_for_lease(connection: asyncpg.Connection, lane: int) -> None:
    """Take a lane's lease for as long as the connection lasts. Raises OperatorError if another process keeps it."""
    try:
        await connection.fetchval(SQL["wait_for_lease"], LEASES, lane, timeout=_LEASE_S_MAX)
    except TimeoutError:
        raise OperatorError(f"A persister is working on lane {lane} and does not release it: try again.") from None


async def verify(connection: asyncpg.Connection, store: Store, stream: EventStream, lane: int) -> tuple[int, str]:
    """Compare a lane with the ledger and let it serve on this server. Returns the checkpoint and the lane token.

    Only for the holder of the lane's lease. Raises LaneBrokenError (the lane is fenced then), CheckpointMovedError
    and LaneChangedError if another process was faster, and BadEntryError.
    """
    before = await ledger_lane(connection, lane)
    status = await store.lane_status(lane)
    row = await ledger_lane(connection, lane)
    if before != row:
        raise CheckpointMovedError(f"Another process is working on lane {lane}.")
    if status is None:
        raise LaneBrokenError(f"Redis has lost lane {lane}; it is fenced.")
    status = await _unless_moving(store, lane, status)
    await _compare(connection, store, lane, row, status)
    if not (await stream.look(lane, row.position)).is_stream:
        await set_lane_token(store.client_of(lane), lane, status, FENCED + epoch_in(status))
        raise LaneBrokenError(f"Lane {lane} is fenced: Redis has a key of another type in the place of its stream.")
    position, lane_token = row.position, lane_token_of(row.epoch, status.server)
    if status.lane_token != lane_token and (reached := await stream.joins_up_to(lane, position)) < status.position:
        lost = f"changes {reached + 1} to {status.position} are gone from the stream"
        raise LaneBrokenError(f"Lane {lane} is fenced: {lost}.")
    if status.lane_token != lane_token or row.run_id != status.server:
        # The ledger first: from now on, nothing that was read from an earlier server can be committed.
        noted = await connection.execute(SQL["note_run_id"], lane, row.epoch, position, status.server)
        if noted != "UPDATE 1":
            raise CheckpointMovedError(f"Lane {lane} is no longer at {position}.")
        if status.lane_token != lane_token:
            # A user who was frozen after the lane's data was written must not claim, not even for a moment.
            await refreeze(connection, store.client_of(lane), lane, status)
            await set_lane_token(store.client_of(lane), lane, status, lane_token)
    return position, lane_token


async def _unless_moving(store: Store, lane: int, status: LaneStatus) -> LaneStatus:
    """Raise LaneChangedError while a lane is being moved. If its mover has died, it is compared like any other."""
    if moving_until_ms(status) is None:
        return status
    if is_moving(status, await store.now_ms(lane)):
        raise LaneChangedError(f"Lane {lane} is being moved to another server.")
    return replace(status, epoch=epoch_in(status))


async def _compare(
    connection: asyncpg.Connection, store: Store, lane: int, row: LedgerLane, status: LaneStatus
) -> None:
    """Compare epoch and position. Fences a lane that serves but must not."""
    if (doubt := await why_doubtful(connection, lane, row, status)) is not None:
        if status.epoch == row.epoch:
            await set_lane_token(store.client_of(lane), lane, status, FENCED + status.epoch)
        raise LaneDoubtfulError(doubt)
    if status.epoch != row.epoch:
        raise LaneBrokenError(f"Lane {lane} is fenced: Redis and the ledger disagree about its epoch.")
    if status.position < row.position:
        await set_lane_token(store.client_of(lane), lane, status, "")
        behind = f"Redis is at change {status.position}, the ledger at {row.position}"
        raise LaneBrokenError(f"Lane {lane} is fenced: {behind}.")


async def why_doubtful(connection: asyncpg.Connection, lane: int, row: LedgerLane, status: LaneStatus) -> str | None:
    """Why the ledger may be wrong, or may belong to another Redis. None if only Redis can have lost something.

    ``row``: this lane in the ledger, not older than ``status``.
    """
    epoch = epoch_in(status)
    if epoch and not await connection.fetchval(SQL["had_epoch"], lane, epoch):
        return (
            f"Lane {lane} is fenced: Redis and the ledger disagree about its epoch, and the ledger never had Redis's "
            "epoch. One of the two belongs to another installation, or the ledger was set back."
        )
    if epoch == row.epoch and status.applied > row.position:
        return (
            f"Lane {lane} is fenced: Redis reports that the ledger had applied {status.applied} changes, but it has "
            f"only {row.position}. The ledger was set back."
        )
    return None
