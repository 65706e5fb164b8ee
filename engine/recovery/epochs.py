"""Each lane's epoch: what Redis and the ledger must agree on before a lane may give anything.

A lane's Redis side is written once, when the lane is first used. If it is gone later, says another epoch, or is that of
a Redis process that nobody has compared with the ledger, the scripts refuse (FENCED) until it was verified (``gate``)
or rebuilt (``recovery``). A rebuilt lane has another epoch, which every process must learn.
"""

import asyncio
import math
import secrets
from collections.abc import Callable

import asyncpg
import structlog

from engine.errors import UnavailableError
from engine.lanes.reader import LaneReader
from engine.lanes.store import Store
from engine.lanes.stream import EventStream
from engine.ledger.failures import DATABASE_ERRORS
from engine.loops import stopped_within
from engine.observability import metrics
from engine.queries import load
from engine.recovery.fencing import FENCED, REBUILDING, lane_tokens
from engine.recovery.serving import Paused, why_paused

LOG = structlog.get_logger()
SQL = load("lanes")
_LOOK_S = 1.0
_LOOK_AGAIN_S = 0.1
_READ_S = 1.0


async def read(pool: asyncpg.Pool) -> dict[int, str]:
    """Every lane the ledger knows and its epoch."""
    return {row["lane"]: row["epoch"] for row in await pool.fetch(SQL["all"])}


async def begin(pool: asyncpg.Pool, store: Store, lanes: int) -> dict[int, str]:
    """Make sure that lanes 0 to ``lanes`` - 1 exist in the ledger, and in Redis if they were never used before."""
    await pool.execute(SQL["add_lanes"], list(range(lanes)), [secrets.token_hex(16) for _ in range(lanes)])
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
    Paused.OTHER_EPOCH: "is fenced: Redis and the ledger disagree about its epoch.",
    Paused.SET_BACK: "is behind the ledger in Redis: it was set back.",
    Paused.UNVERIFIED: "is fenced: Redis was restarted and is not compared with the ledger yet.",
}
"""What follows a lane's number, in a sentence."""


async def fenced(pool: asyncpg.Pool, store: LaneReader, *, backlog_max: int | None = None) -> list[str]:
    """One sentence for each lane that does not serve; also for those whose backlog is at ``backlog_max``, if given."""
    sentences = []
    for row in await pool.fetch(SQL["all"]):
        status = await store.lane_status(row["lane"])
        paused = why_paused(row["epoch"], row["position"], status)
        if paused is not None:
            sentences.append(f"Lane {row['lane']} {WHY[paused]}")
        elif status is not None and backlog_max is not None and status.position - status.applied >= backlog_max:
            sentences.append(f"Lane {row['lane']} is full: {backlog_max} changes wait for the ledger.")
    return sentences


async def blocked(pool: asyncpg.Pool, stream: EventStream, *, is_ledger_awaited: bool) -> list[str]:
    """One sentence for each lane that refuses claims because of what stands in its stream.

    ``is_ledger_awaited``: no claim is acknowledged before the ledger has it, and so none behind a bad entry either.
    """
    sentences = []
    for row in await pool.fetch(SQL["all"]):
        look = await stream.look(row["lane"], row["position"])
        if not look.is_stream:
            sentences.append(f"Lane {row['lane']} has something else in the place of its stream.")
        elif look.bad is not None and (look.refuses or is_ledger_awaited):
            sentences.append(str(look.bad))
    return sentences


class Watch:
    """Keeps a process's ``epochs`` those of the ledger, and has it forget what it remembers of a lane that changed.

    It looks at the lanes' tokens in Redis once a second, and soon after ``wake``; the ledger is read only when a lane
    refuses or has an epoch that is not known here, at most once a second.
    """

    def __init__(self, pool: asyncpg.Pool, store: Store, epochs: dict[int, str], forget: Callable[[int], None]) -> None:
        self._pool, self._store, self._epochs, self._forget = pool, store, epochs, forget
        self._lane_tokens: dict[int, str] = {}
        self._refused = asyncio.Event()
        self._read_at_s = -math.inf

    def wake(self, _lane: int) -> None:
        """A lane has refused: look soon."""
        self._refused.set()

    async def run(self) -> None:
        """Watch until cancelled; what fails is logged and tried again."""
        is_away = False
        while True:
            try:
                await self._look()
                is_away = False
            except (UnavailableError, *DATABASE_ERRORS) as error:
                if not is_away:
                    metrics.LOOP_ERRORS.labels("epochs").inc()
                    LOG.warning("epochs_not_read", error=str(error), error_type=type(error).__name__)
                is_away = True
            await asyncio.sleep(_LOOK_AGAIN_S)
            await stopped_within(self._refused, _LOOK_S - _LOOK_AGAIN_S)

    async def _look(self) -> None:
        found = await lane_tokens(self._store.client, list(self._epochs))
        for lane, lane_token in found.items():
            if (
                lane_token
                and not lane_token.startswith((FENCED, REBUILDING))
                and lane_token != self._lane_tokens.get(lane)
            ):
                self._forget(lane)  # another server, or a rebuilt lane: it may not hold what is remembered here
                self._lane_tokens[lane] = lane_token
        is_known = all(
            lane_token and lane_token.partition("@")[0] == self._epochs[lane] for lane, lane_token in found.items()
        )
        now_s = asyncio.get_running_loop().time()
        if (self._refused.is_set() or not is_known) and now_s - self._read_at_s >= _READ_S:
            self._read_at_s = now_s
            self._refused.clear()
            self._epochs.update(await read(self._pool))
