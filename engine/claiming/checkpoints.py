"""The ledger's checkpoint in each lane, and the claims that wait until it is far enough.

The persister's transaction notifies with its commit (``sql/ledger.sql``). One connection listens. It is opened when a
claim first waits, and again whenever it is lost. All checkpoints are also read once it is open, and then once per
second. This finds notices that nobody heard, or that were lost on a connection that only looks alive.

A checkpoint is valid only with its lane token (``engine.lanes.connections.lane_token_of``): a Redis that was set back,
or a lane that was rebuilt, reaches the same positions again with other changes.
"""

import asyncio
from collections import defaultdict
from typing import NamedTuple

import asyncpg
import structlog

from engine.errors import HongbaoError, UnconfirmedError
from engine.ledger.database import database_connection
from engine.ledger.failures import DATABASE_ERRORS
from engine.loops import end, stopped_within
from engine.observability import metrics
from engine.observability.repeats import repeats
from engine.queries import load

CHANNEL = "hongbao_applied"
APPLICATION = "hongbao checkpoints"
"""The name of the listening connection in Postgres."""
SQL = load("acks")
WAITERS_MAX = 10_000
"""This counts calls of the claim script, not claims."""
_READ_INTERVAL_S = 1.0
_READ_S_MAX = 1.0
_RETRY_S = 0.1

_log = structlog.get_logger(__name__)


class _Waiter(NamedTuple):
    lane_token: str
    position: int
    reached: "asyncio.Future[None]"


class Checkpoints:
    """One process's knowledge of the ledger's checkpoints."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._known: dict[int, tuple[str, int]] = {}
        self._waiters: defaultdict[int, set[_Waiter]] = defaultdict(set)
        self._waiting = 0
        self._listening: asyncio.Task[None] | None = None

    async def reached(self, lane: int, lane_token: str, position: int) -> None:
        """Wait until the ledger holds all changes up to ``position`` of a lane with this token.

        If the token has changed, this never returns: the caller sets a bound. Raises UnconfirmedError if too many wait.
        """
        known = self._known.get(lane)
        if known is not None and known[0] == lane_token and known[1] >= position:
            return
        if self._waiting >= WAITERS_MAX:
            raise UnconfirmedError("The claim stands, but the ledger does not have it yet: repeat it for its answer.")
        self.listen()
        waiter = _Waiter(lane_token, position, asyncio.get_running_loop().create_future())
        self._waiters[lane].add(waiter)
        self._waiting += 1
        try:
            await waiter.reached
        finally:
            self._waiting -= 1
            self._waiters[lane].discard(waiter)

    def listen(self) -> None:
        """Start listening, unless this process already does."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._keep_listening())

    async def close(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            await end(self._listening)
            self._listening = None

    async def _keep_listening(self) -> None:
        metrics.show(metrics.LOOP_ERRORS, "checkpoints")
        while True:
            try:
                await self._listen()
            except (HongbaoError, *DATABASE_ERRORS) as error:  # a TimeoutError is one of them
                metrics.LOOP_ERRORS.labels("checkpoints").inc()
                kind = type(error).__name__
                if times := repeats.times("not_listening", f"{kind} {error}"):
                    _log.warning("not_listening", error=str(error), error_type=kind, times=times)
            await asyncio.sleep(_RETRY_S)

    async def _listen(self) -> None:
        """Listen on a connection until it is lost."""
        connection = await database_connection(self._database_url, {"application_name": APPLICATION})
        try:
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _connection: lost.set())
            await connection.add_listener(CHANNEL, self._hear)
            while not lost.is_set():
                for row in await connection.fetch(SQL["checkpoints"], timeout=_READ_S_MAX):
                    self._note(row["lane"], row["lane_token"], row["position"])
                await stopped_within(lost, _READ_INTERVAL_S)
        finally:
            # Not ``close``: it waits for an answer, and the network may be down.
            connection.terminate()

    def _hear(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        lane, position, lane_token = str(payload).split(":", 2)
        self._note(int(lane), lane_token, int(position))

    def _note(self, lane: int, lane_token: str, position: int) -> None:
        self._known[lane] = (lane_token, position)
        for waiter in self._waiters[lane]:
            if waiter.position <= position and waiter.lane_token == lane_token and not waiter.reached.done():
                waiter.reached.set_result(None)


async def is_awaited(connection: asyncpg.Connection, lane: int) -> bool:
    """Whether the lane has an open packet whose claims must be in the ledger before they are acknowledged."""
    return bool(await connection.fetchval(SQL["is_awaited"], lane))
