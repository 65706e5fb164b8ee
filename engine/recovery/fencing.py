"""A lane's token in Redis, and writes that succeed only while the lane has the token that the writer saw.

In Redis one string decides whether a lane serves. A writer that changes it, or a fenced lane's data, names the token
and the server it expects. So if two processes believe that a lane is theirs (one of them is late), only one succeeds.
"""

import re
from collections.abc import AsyncIterator, Sequence
from functools import partial

from redis.asyncio import Redis
from redis.exceptions import ResponseError, WatchError

from engine.errors import HongbaoError
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.failures import redis_errors
from engine.lanes.reader import LaneStatus, is_wrong_type, refuse_replica
from engine.lanes.replies import Fenced
from engine.lanes.scripts import Script

FENCED, REBUILDING, MOVING = "fenced ", "rebuilding ", "moving "
"""The prefix of the epoch in the token of a lane that must not serve. No connection ever sends such a token."""
_MOVING = re.compile(rf"{MOVING}(\d+) ")
"""And until when, by the clock of the lane's server: its mover may die."""
_MOVING_MS_MAX = 60_000
"""No fence lasts that long. One that would was set by another server's clock, from which the lane has moved since."""
_SCAN_COUNT = 1_000
_FENCE = Script("fence")

Command = Sequence[str | bytes | int]


class LaneChangedError(HongbaoError):
    """Another process has written the lane token, or another server answers: look again."""

    code = "lane_changed"


def epoch_in(status: LaneStatus) -> str:
    """A lane's epoch without its prefix. Empty if it was taken away."""
    return _MOVING.sub("", status.epoch.removeprefix(FENCED).removeprefix(REBUILDING), count=1)


def moving_until_ms(status: LaneStatus) -> int | None:
    """Until when a lane is fenced because it is being moved to another server. None if it is not."""
    found = _MOVING.match(status.epoch)
    return None if found is None else int(found[1])


def is_moving(status: LaneStatus, now_ms: int) -> bool:
    """Whether a lane's mover is at work, by the clock of the lane's server. If it has died, its fence has an end."""
    until_ms = moving_until_ms(status)
    return until_ms is not None and now_ms <= until_ms <= now_ms + _MOVING_MS_MAX


async def run_id(client: Redis) -> str:
    """The run id of the server that answers. Raises UnavailableError."""
    with redis_errors():
        info = await command(client, "INFO", "server")
    return str(info["run_id"])


async def set_lane_token(client: Redis, lane: int, status: LaneStatus, lane_token: str) -> None:
    """Replace the token in ``status`` with another one. Raises as ``write_if`` does."""
    await write_if(client, lane, status.lane_token, status.server, [("HSET", keys.lane(lane), "epoch", lane_token)])


async def fence_to_move(client: Redis, lane: int, status: LaneStatus, until_ms: int) -> None:
    """Let a lane that has the token in ``status`` refuse everything until then, however busy it is.

    Raises LaneChangedError if it has another token, and UnavailableError.
    """
    moving_token = f"{MOVING}{until_ms} {epoch_in(status)}"
    with redis_errors():
        reply = await _FENCE.call(partial(command, client), [keys.lane(lane)], [status.lane_token, moving_token])
    if reply[0].decode() != Fenced.FENCED:
        raise LaneChangedError(f"Another process has changed lane {lane}.")


async def write_if(client: Redis, lane: int, lane_token: str | None, server: str, commands: Sequence[Command]) -> None:
    """Run commands on a lane's keys, all or none, if it has this token (None: no token) and is on this server.

    Raises LaneChangedError if not, or if it is unknown whether they ran, and UnavailableError.
    """
    with redis_errors():
        async with client.pipeline(transaction=True) as pipeline:
            try:
                await pipeline.watch(keys.lane(lane))
                found = await _token(pipeline, lane)
                info = await command(pipeline, "INFO", "server")
                if found != lane_token or info["run_id"] != server:
                    raise LaneChangedError(f"Another process has changed lane {lane}, or Redis was restarted.")
                pipeline.multi()  # type: ignore[no-untyped-call]
                for words in commands:
                    pipeline.execute_command(*words)
                await pipeline.execute()
            except WatchError as error:
                raise LaneChangedError(f"Lane {lane} was changed meanwhile, or Redis failed: {error}") from None


async def lane_tokens(client: Redis, lanes: Sequence[int]) -> tuple[dict[int, str | None], str]:
    """Each lane's token in Redis, and the run id of the server that answers. Raises UnavailableError, also if the
    server is a replica.
    """
    with redis_errors():
        async with client.pipeline(transaction=False) as pipeline:
            for lane in lanes:
                pipeline.hget(keys.lane(lane), "epoch")
            pipeline.info("server")
            pipeline.info("replication")
            *found, info, replication = await pipeline.execute(raise_on_error=False)
        for reply in (info, replication):
            if isinstance(reply, Exception):
                raise reply
        refuse_replica(replication)
        return dict(zip(lanes, map(_text, found), strict=True)), str(info["run_id"])


async def _token(client: Redis, lane: int) -> str | None:
    try:
        return _text(await command(client, "HGET", keys.lane(lane), "epoch"))
    except ResponseError as error:
        return _text(error)


def _text(reply: object) -> str | None:
    """A token in Redis, or None if there is none or the lane's key has another type."""
    if isinstance(reply, Exception) and not is_wrong_type(reply):
        raise reply
    return reply.decode(errors="replace") if isinstance(reply, bytes) else None


async def leftovers(client: Redis, lane: int, server: str) -> AsyncIterator[list[bytes]]:
    """The names of all keys of a lane except its own key, some at a time, without blocking Redis.

    Raises LaneChangedError if another server than ``server`` answers, and UnavailableError.
    """
    cursor, own = 0, keys.lane(lane).encode()
    while True:
        with redis_errors():
            async with client.pipeline(transaction=False) as pipeline:
                pipeline.exists(own)  # a scan names no key, and any server of a cluster would answer it
                pipeline.info("server")
                pipeline.execute_command("SCAN", cursor, "MATCH", f"{keys.tag(lane)}:*", "COUNT", _SCAN_COUNT)
                _, info, found = await pipeline.execute()
        if info["run_id"] != server:
            raise LaneChangedError(f"Lane {lane} is on another server meanwhile.")
        cursor, names = int(found[0]), [name for name in found[1] if name != own]
        if names:
            yield names
        if not cursor:
            return
