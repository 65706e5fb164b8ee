"""Each lane's epoch: Redis and the ledger must agree on it before the lane may give shares.

A lane is written into Redis once, when it is first used. The scripts refuse (FENCED) if it is gone later, has another
epoch, or is in a Redis process that was not compared with the ledger. The lane must then be verified (``gate``) or
rebuilt (``recovery``). A rebuilt lane has a new epoch, and every process must learn it.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass, field
from functools import partial

import asyncpg
import structlog
from redis.exceptions import ReadOnlyError

from engine.errors import UnavailableError
from engine.lanes.connections import lane_token_of
from engine.lanes.reader import LaneReader
from engine.lanes.store import Store
from engine.lanes.stream import EventStream
from engine.lanes.topology import Node, Topology
from engine.loops import end, stopped_within
from engine.observability import metrics
from engine.queries import load
from engine.recovery.fencing import FENCED, MOVING, REBUILDING, lane_tokens
from engine.recovery.serving import Paused, why_paused
from engine.settings import LANES_MAX

LOG = structlog.get_logger()
ALL = range(LANES_MAX)
SQL = load("lanes")
_LOOK_S = 1.0
_LOOK_AGAIN_S = 0.1
_LEDGER_S = 0.5
_LEDGER_AGAIN_S = 0.2
_STOP_S = 1.0
_REPLACED_MAX = 64
"""How many replaced servers a process remembers."""


@dataclass(slots=True)
class Known:
    """What a process knows of every lane in the ledger: its epoch, and the run id of the server that was verified.

    The run id is empty until a lane is verified for the first time.
    """

    epochs: dict[int, str] = field(default_factory=dict)
    servers: dict[int, str] = field(default_factory=dict)
    paused: set[int] = field(default_factory=set)
    """Lanes that did not serve when they were last looked at, or whose server did not answer."""

    def is_lane_token(self, lane: int, lane_token: str | None) -> bool:
        """Whether the lane serves under this token."""
        epoch, server = self.epochs[lane], self.servers[lane]
        return lane_token == lane_token_of(epoch, server) if server else str(lane_token).partition("@")[0] == epoch


async def read(pool: asyncpg.Pool) -> Known:
    """What the ledger has at this moment."""
    rows = await pool.fetch(SQL["all"])
    return Known({row["lane"]: row["epoch"] for row in rows}, {row["lane"]: row["run_id"] for row in rows})


async def begin(pool: asyncpg.Pool, store: Store, lanes: int) -> Known:
    """Make sure that lanes 0 to ``lanes`` - 1 exist in the ledger and, if they were never used, in Redis."""
    await pool.execute(SQL["add_lanes"], [secrets.token_hex(16) for _ in range(lanes)])
    for row in await pool.fetch(SQL["all"]):
        if not row["begun"]:
            await _begin_lane(pool, store, row["lane"])
    return await read(pool)


async def _begin_lane(pool: asyncpg.Pool, store: Store, lane: int) -> None:
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(SQL["lock"], lane)
        if row is not None and not row["begun"]:
            await store.begin_lane(lane, row["epoch"])
            await connection.execute(SQL["mark_begun"], lane)


WHY = {
    Paused.LOST: "is fenced: Redis has lost it.",
    Paused.REBUILDING: "is fenced: it is being rebuilt from the ledger.",
    Paused.MOVING: "is fenced: it is being moved to another server.",
    Paused.OTHER_EPOCH: "is fenced: Redis and the ledger disagree about its epoch.",
    Paused.SET_BACK: "is behind the ledger in Redis: it was set back.",
    Paused.UNVERIFIED: "is fenced: Redis was restarted and is not compared with the ledger yet.",
}
"""How a sentence goes on after the lane's number."""


async def fenced(
    pool: asyncpg.Pool, store: LaneReader, *, backlog_max: int | None = None, lanes: Container[int] = ALL
) -> dict[int, str]:
    """One sentence per lane that does not serve, or whose backlog has reached ``backlog_max``, if given."""
    sentences = {}
    for row in [row for row in await pool.fetch(SQL["all"]) if row["lane"] in lanes]:
        status = await store.lane_status(row["lane"])
        paused = why_paused(row["epoch"], row["position"], status)
        if paused is not None:
            sentences[row["lane"]] = f"Lane {row['lane']} {WHY[paused]}"
        elif status is not None and backlog_max is not None and status.position - status.applied >= backlog_max:
            sentences[row["lane"]] = f"Lane {row['lane']} is full: {backlog_max} changes wait for the ledger."
    return sentences


async def blocked(
    pool: asyncpg.Pool, stream: EventStream, *, is_ledger_awaited: bool, lanes: Container[int] = ALL
) -> dict[int, str]:
    """One sentence per lane that refuses claims because of a bad entry in its stream.

    ``is_ledger_awaited``: claims are acknowledged only once the ledger has them, so none after a bad entry is.
    """
    sentences = {}
    for row in [row for row in await pool.fetch(SQL["all"]) if row["lane"] in lanes]:
        look = await stream.look(row["lane"], row["position"])
        if not look.is_stream:
            sentences[row["lane"]] = f"Lane {row['lane']} has a key of another type in the place of its stream."
        elif look.bad is not None and (look.refuses or is_ledger_awaited):
            sentences[row["lane"]] = str(look.bad)
    return sentences


class Watch:
    """Keeps what a process knows of each lane equal to the ledger's, and makes it forget a lane that changed.

    It reads the ledger twice per second whatever Redis says, and soon after ``wake``. A server that was replaced may
    still answer on old connections, and it knows nothing of the change. It reads the lanes' tokens in Redis once per
    second, and soon after ``wake``: each server in a loop of its own, so that one that hangs delays nobody else. If a
    node's connections lead to a server that was replaced, it closes that node's.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        known: Known,
        forget: Callable[[int], None],
        topology: Topology,
    ) -> None:
        self._pool, self._known, self._forget, self._topology = pool, known, forget, topology
        self._lane_tokens: dict[int, str] = {}
        self._replaced: deque[str] = deque(maxlen=_REPLACED_MAX)
        self._wake_ledger, self._stop = asyncio.Event(), asyncio.Event()
        self._wake_redis = {node: asyncio.Event() for node in topology.nodes}
        self._tasks: list[asyncio.Task[None]] = []

    def wake(self, lane: int) -> None:
        """Look soon, because a lane has refused."""
        self._wake_ledger.set()
        self._wake_redis[self._topology.node_of(lane)].set()

    def start(self) -> None:
        """Watch from now on. Failures are logged and retried."""
        looks = [self._again(self._look_at_ledger, self._wake_ledger, _LEDGER_S, _LEDGER_AGAIN_S)]
        for node, wake in self._wake_redis.items():
            looks.append(self._again(partial(self._look_at_redis, node), wake, _LOOK_S, _LOOK_AGAIN_S))
        self._tasks = [asyncio.create_task(look) for look in looks]

    async def stop(self) -> None:
        """Stop after the looks that are under way. A look that takes long is cancelled."""
        self._stop.set()
        for wake in (self._wake_ledger, *self._wake_redis.values()):
            wake.set()
        await asyncio.wait(self._tasks, timeout=_STOP_S)
        for task in self._tasks:
            await end(task)

    async def _look_at_ledger(self) -> None:
        found = await read(self._pool)
        for lane, server in found.servers.items():
            before = self._known.servers.get(lane)
            if before and before != server:
                self._replaced.append(before)
            if (before, self._known.epochs.get(lane)) != (server, found.epochs[lane]):
                self._forget(lane)
        self._known.epochs.update(found.epochs)
        self._known.servers.update(found.servers)

    async def _look_at_redis(self, node: Node) -> None:
        held = filter(self._topology.holds, self._known.epochs)
        lanes = self._topology.by_node(held).get(node, [])
        try:
            found, server = await lane_tokens(node.client, lanes)
        except UnavailableError as error:
            self._known.paused.update(lanes)
            if isinstance(error.__cause__, ReadOnlyError):
                await node.disconnect()
            raise
        for lane, lane_token in found.items():
            if (
                lane_token
                and not lane_token.startswith((FENCED, REBUILDING, MOVING))
                and lane_token != self._lane_tokens.get(lane)
            ):
                self._forget(lane)  # the server or the lane is new: it may not hold what is remembered here
                self._lane_tokens[lane] = lane_token
        paused = {lane for lane, lane_token in found.items() if not self._known.is_lane_token(lane, lane_token)}
        self._known.paused.difference_update(lanes)
        self._known.paused.update(paused)
        if paused:
            self._wake_ledger.set()
        if server in self._replaced and server not in self._known.servers.values():
            LOG.warning("redis_replaced", run_id=server)
            await node.disconnect()

    async def _again(
        self, look: Callable[[], Awaitable[None]], wake: asyncio.Event, pause_s: float, least_s: float
    ) -> None:
        """Look until stopped, ``pause_s`` after each time, or after ``least_s`` if ``wake`` is set."""
        is_away = False
        while not self._stop.is_set():
            wake.clear()
            try:
                await look()
                is_away = False
            except Exception as error:  # whatever it is: who looks no longer believes a replaced server for good
                if not is_away:
                    metrics.LOOP_ERRORS.labels("epochs").inc()
                    LOG.warning("epochs_not_read", error=str(error), error_type=type(error).__name__)
                is_away = True
            await stopped_within(self._stop, least_s)
            await stopped_within(wake, pause_s - least_s)
