"""Each lane's epoch: Redis and the ledger must agree on it before the lane may give shares.

A lane is written into Redis once, when it is first used. The scripts refuse (FENCED) if it is gone later, has another
epoch, or is in a Redis process that was not compared with the ledger. The lane must then be verified (``gate``) or
rebuilt (``recovery``). A rebuilt lane has a new epoch, and every process must learn it.
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
    """The epoch of every lane in the ledger."""
    return {row["lane"]: row["epoch"] for row in await pool.fetch(SQL["all"])}


async def begin(pool: asyncpg.Pool, store: Store, lanes: int) -> dict[int, str]:
    """Make sure that lanes 0 to ``lanes`` - 1 exist in the ledger and, if they were never used, in Redis."""
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
"""How a sentence goes on after the lane's number."""


async def fenced(pool: asyncpg.Pool, store: LaneReader, *, backlog_max: int | None = None) -> list[str]:
    """One sentence per lane that does not serve, or whose backlog has reached ``backlog_max``, if given."""
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
    """One sentence per lane that refuses claims because of a bad entry in its stream.

    ``is_ledger_awaited``: claims are acknowledged only once the ledger has them, so none after a bad entry is.
    """
    sentences = []
    for row in await pool.fetch(SQL["all"]):
        look = await stream.look(row["lane"], row["position"])
        if not look.is_stream:
            sentences.append(f"Lane {row['lane']} has a key of another type in the place of its stream.")
        elif look.bad is not None and (look.refuses or is_ledger_awaited):
            sentences.append(str(look.bad))
    return sentences


class Watch:
    """Keeps a process's ``epochs`` equal to the ledger's, and makes the process forget a lane that changed.

    It reads the lanes' tokens in Redis once per second, and soon after ``wake``. It reads the ledger at most once per
    second, only if a lane refuses or has an epoch that this process does not know.
    """

    def __init__(self, pool: asyncpg.Pool, store: Store, epochs: dict[int, str], forget: Callable[[int], None]) -> None:
        self._pool, self._store, self._epochs, self._forget = pool, store, epochs, forget
        self._lane_tokens: dict[int, str] = {}
        self._refused = asyncio.Event()
        self._read_at_s = -math.inf

    def wake(self, _lane: int) -> None:
        """Look soon, because a lane has refused."""
        self._refused.set()

    async def run(self) -> None:
        """Watch until cancelled. Failures are logged and retried."""
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
                self._forget(lane)  # the server or the lane is new: it may not hold what is remembered here
                self._lane_tokens[lane] = lane_token
        is_known = all(
            lane_token and lane_token.partition("@")[0] == self._epochs[lane] for lane, lane_token in found.items()
        )
        now_s = asyncio.get_running_loop().time()
        if (self._refused.is_set() or not is_known) and now_s - self._read_at_s >= _READ_S:
            self._read_at_s = now_s
            self._refused.clear()
            self._epochs.update(await read(self._pool))
