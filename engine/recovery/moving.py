"""Moves a lane to another server of its cluster while it is in use, and loses nothing.

The lane is fenced first: every script refuses it, so nothing is written while it moves. Its token says until when. If
the mover dies, the persister takes the lane up again after that, wherever it is. At the end the lane has the token of
its old server. So no script serves it until the persister has compared it with the ledger.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

import asyncpg
from redis.exceptions import RedisError

from engine.errors import OperatorError, UnavailableError
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.connections import lane_token_of
from engine.lanes.failures import redis_errors
from engine.lanes.reader import LaneReader, LaneStatus
from engine.lanes.slot_moves import Master, move_slot
from engine.ledger.database import ledger_errors
from engine.queries import load
from engine.recovery.fencing import (
    LaneChangedError,
    epoch_in,
    fence_to_move,
    is_moving,
    moving_until_ms,
    set_lane_token,
)
from engine.recovery.serving import Paused, why_paused

SQL = load("lanes")
_FENCED_MS, _AGAIN_S = 10_000, 1.0
"""How long a fence lasts, and how often it is renewed."""
_REPLICAS_S_MAX, _WAIT_MS = 5.0, 200
"""Shorter than the fence and than a client's time for a reply."""
_SERVES_S_MAX = 30.0
_RESTORE_S_MAX = 10.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """``refused_s``: how long the lane refused. ``serves``: whether it serves again; if not, no persister runs."""

    lane: int
    refused_s: float
    serves: bool
    replicas: int
    """How many replicas of its new server have it."""


class LaneMove:
    """One move. ``pool``: the ledger. ``source``, ``target``: masters of the lane's cluster."""

    def __init__(self, pool: asyncpg.Pool, store: LaneReader, lane: int, source: Master, target: Master) -> None:
        self._pool, self._store, self._lane = pool, store, lane
        self._source, self._target = source, target
        self._renewed_s = 0.0
        self._untils_ms: set[int] = set()  # the times in the fences of this move, and of no other mover

    async def run(self, tell: Callable[[str], None]) -> Moved:
        """Move the lane, and wait until it serves. ``tell`` gets a sentence for each step that may take long.

        Raises OperatorError: the lane is where it was then, or the sentence says what to do. Raises UnavailableError.
        """
        status, began_s = await self._movable(), monotonic()
        try:
            await self._fence(status)
            tell(f"lane {self._lane} is fenced and moves from {self._source.place} to {self._target.place}")
            with redis_errors():
                slot, last = keys.slot(self._lane), keys.lane(self._lane)
                await move_slot(slot, self._source, self._target, last=last, between=self._renew)
            replicas = await self._replicate()
        finally:
            await self._end_fence(status)
        serves = await self._wait_until_it_serves()
        return Moved(lane=self._lane, refused_s=monotonic() - began_s, serves=serves, replicas=replicas)

    async def _movable(self) -> LaneStatus:
        """The lane's status. Raises OperatorError unless it serves, or an earlier move of it was broken off."""
        row, status = await self._row(), await self._store.lane_status(self._lane)
        if status is not None and is_moving(status, await self._store.now_ms(self._lane)):
            raise OperatorError(f"Lane {self._lane} is being moved already: wait until that has ended.")
        paused = why_paused(row["epoch"], row["position"], status)
        if status is None or paused not in (None, Paused.MOVING):
            why = (paused or Paused.LOST).name.lower().replace("_", " ")
            raise OperatorError(f"Lane {self._lane} does not serve now ({why}): move it once it does.")
        return status

    async def _row(self) -> asyncpg.Record:
        with ledger_errors():
            row: asyncpg.Record | None = await self._pool.fetchrow(SQL["lane"], self._lane)
        if row is None:
            raise OperatorError(f"There is no lane {self._lane} in the ledger.")
        return row

    async def _fence(self, status: LaneStatus) -> None:
        until_ms = await self._store.now_ms(self._lane) + _FENCED_MS
        self._untils_ms.add(until_ms)
        try:
            await fence_to_move(self._store.client_of(self._lane), self._lane, status, until_ms)
        except LaneChangedError:
            self._untils_ms.discard(until_ms)
            raise
        self._renewed_s = monotonic()

    def _is_own(self, status: LaneStatus | None) -> bool:
        return status is not None and moving_until_ms(status) in self._untils_ms

    async def _renew(self) -> None:
        """Fence it for longer. At the moment when the slot changes hands this may fail: the fence goes with it.

        Raises OperatorError if the fence has ended: what is written now must not travel.
        """
        if monotonic() - self._renewed_s < _AGAIN_S:
            return
        self._renewed_s = monotonic()
        with contextlib.suppress(UnavailableError, LaneChangedError):
            status = await self._store.lane_status(self._lane)
            if status is None:
                return
            if not self._is_own(status):
                raise OperatorError(f"Lane {self._lane} is no longer fenced by this move, which is broken off.")
            await self._fence(status)

    async def _replicate(self) -> int:
        """Wait until the target's replicas have the lane: those that its old server's replicas had do not count."""
        client, deadline_s = self._target.client, monotonic() + _REPLICAS_S_MAX
        with redis_errors():
            connected = int((await command(client, "INFO", "replication"))["connected_slaves"])
            have = 0
            while have < connected and monotonic() < deadline_s:
                async with client.pipeline(transaction=False) as pipeline:
                    # WAIT is about its own connection's last write. This one changes nothing.
                    pipeline.hincrby(keys.lane(self._lane), "applied", 0)
                    pipeline.execute_command("WAIT", connected, _WAIT_MS)
                    _, have = await pipeline.execute()
        return have

    async def _end_fence(self, before: LaneStatus) -> None:
        """Give the lane its token back. On its old server it serves at once; elsewhere it is compared first."""
        token = before.lane_token
        if moving_until_ms(before) is not None:
            # An earlier move was broken off. Its lane may have been elsewhere, so no server serves it uncompared.
            token = lane_token_of(epoch_in(before), "")
        deadline_s = monotonic() + _RESTORE_S_MAX
        while True:
            try:
                status = await self._store.lane_status(self._lane)
                if status is not None and self._is_own(status):
                    await set_lane_token(self._store.client_of(self._lane), self._lane, status, token)
            except (UnavailableError, LaneChangedError, RedisError):
                if monotonic() > deadline_s:
                    raise
                await asyncio.sleep(_POLL_S)
            else:
                return

    async def _wait_until_it_serves(self) -> bool:
        deadline_s = monotonic() + _SERVES_S_MAX
        while monotonic() < deadline_s:
            try:
                row, status = await self._row(), await self._store.lane_status(self._lane)
            except UnavailableError:
                status = None
            else:
                if why_paused(row["epoch"], row["position"], status) is None:
                    return True
            await asyncio.sleep(_POLL_S)
        return False
