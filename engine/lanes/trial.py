"""Runs each real script on a lane of its own, to see whether the server lets it do all that claims need.

It is one transaction that begins by removing the lane and ends so: nobody else sees the lane, and none of it is left,
whatever dies in between.
"""

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from engine.errors import OperatorError, ServerRefusesError
from engine.lanes import keys
from engine.lanes.failures import as_operators, failure_of, is_passing, redis_errors
from engine.lanes.replies import Claimed, Closed, CloseReason, Followed, Noted, Opened
from engine.lanes.scripts import Script
from engine.records import Outcome

_EPOCH, _PACKET = "trial", "1000000000000000000"
_ANY_MS = 2**53 - 1
_NAMES = keys.TRIAL
_OPENING = (_PACKET, _ANY_MS, 0, 2, 3, _ANY_MS, "1:2", "", "", 2, "alice", "bob", "0:1", "1:2")
_STEPS = (
    (Script("open"), [*_NAMES[:3], _NAMES.packet, _NAMES.shares, _NAMES.recipients], _OPENING, Opened.OPENED),
    (Script("view"), [_NAMES.lane, _NAMES.packet], ("bob", "view", _ANY_MS, 1), Noted.NOTED),
    (Script("freeze"), [_NAMES.lane, _NAMES.frozen], (0, 1, 1, "eve"), Followed.FOLLOWED),
    (Script("claim"), list(_NAMES), (10, _PACKET, 1, "alice"), Claimed.OK),
    (
        Script("close"),
        [*_NAMES[:3], _NAMES.packet, _NAMES.shares],
        (_PACKET, CloseReason.RETURNED, _ANY_MS, 0),
        Closed.CLOSED,
    ),
)


async def try_scripts(client: Redis) -> None:
    """Raise ServerRefusesError, which says why and what to do, where a script cannot do its work; UnavailableError."""
    with redis_errors():
        replies = await _replies(client)
    _check(replies)


async def try_scripts_at_start(client: Redis) -> None:
    """The same for whoever starts a process. Raises OperatorError, but logs only what passes by itself."""
    try:
        _check(await _replies(client))
    except (RedisError, OSError) as error:
        if not is_passing(error):
            raise as_operators(error) from None
        failure_of(error)
    except ServerRefusesError as error:
        raise OperatorError(str(error)) from None


async def _replies(client: Redis) -> list[Any]:
    async with client.pipeline(transaction=True) as pipeline:
        pipeline.execute_command("UNLINK", *_NAMES)
        pipeline.execute_command("HSET", _NAMES.lane, "epoch", _EPOCH, "position", 0, "applied", 0)
        for script, names, arguments, _ in _STEPS:
            pipeline.execute_command("EVAL", script.source, len(names), *names, _EPOCH, *arguments)
        pipeline.execute_command("PEXPIRE", _NAMES.claims, 1_000)
        pipeline.execute_command("XTRIM", _NAMES.events, "MINID", "1-1")
        pipeline.execute_command("UNLINK", *_NAMES)
        replies: list[Any] = await pipeline.execute()
    return replies


def _check(replies: list[Any]) -> None:
    for (script, _, _, wanted), reply in zip(_STEPS, replies[2:], strict=False):
        if reply[0] != wanted.encode():
            raise ServerRefusesError(f"Redis runs {script.name}.lua otherwise than it says: it answers {reply!r}.")
    claimed = replies[2 + [script.name for script, *_ in _STEPS].index("claim")]
    if claimed[1:3] != [Outcome.CLAIMED.encode(), [1]]:
        raise ServerRefusesError(f"Redis runs claim.lua otherwise than it says: it answers {claimed!r}.")
