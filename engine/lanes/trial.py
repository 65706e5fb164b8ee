"""Runs each real script on a trial lane, to check that the server allows everything that claims need.

This is one transaction, and its first and last command remove the lane. So no other client sees the lane, and nothing
of it is left, whatever dies in between.
"""

import asyncio
import math
from time import monotonic
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from engine.errors import OperatorError, ServerRefusesError
from engine.lanes import keys
from engine.lanes.failures import as_operators, failure_of, is_away, is_passing, redis_errors
from engine.lanes.replies import Claimed, Closed, CloseReason, Extended, Followed, Forgotten, Noted, Opened
from engine.lanes.scripts import Script
from engine.lanes.topology import Node, Topology
from engine.records import Outcome

AGAIN_S = 1.0
_EPOCH, _PACKET = "trial", "1000000000000000000"
_ANY_MS = 2**53 - 1
_OPENING = (_EPOCH, _PACKET, _ANY_MS, 0, 2, 3, _ANY_MS, "1:2", "", "", 2, "alice", "bob", "0:1", "1:2")
_STEPS: tuple[tuple[Script, tuple[str, ...], tuple[str | int, ...], list[Any]], ...] = (
    (Script("open"), ("lane", "events", "due", "packet", "shares", "recipients"), _OPENING, [Opened.OPENED]),
    (Script("view"), ("lane", "packet"), (_EPOCH, "bob", "view", _ANY_MS, 1), [Noted.NOTED, 1, 0]),
    (Script("extend"), ("lane", "due", "packet"), (_EPOCH, _PACKET, _ANY_MS), [Extended.EXTENDED]),
    (Script("freeze"), ("lane", "frozen"), (_EPOCH, 0, 1, 1, "eve"), [Followed.FOLLOWED]),
    (Script("limit"), ("lane", "limited"), (_EPOCH, 0, 1, "eve", _ANY_MS), [Followed.FOLLOWED]),
    (
        Script("claim"),
        keys.TrialKeys._fields,
        (_EPOCH, 10, _PACKET, 1, "alice"),
        [Claimed.OK, Outcome.CLAIMED, [1], 2],
    ),
    (
        Script("close"),
        ("lane", "events", "due", "packet", "shares"),
        (_EPOCH, _PACKET, CloseReason.RETURNED, _ANY_MS, 0),
        [Closed.CLOSED, 1, 2],
    ),
    (Script("forget"), ("packet", "claims", "recipients"), (1_000,), [Forgotten.FORGOTTEN]),
)
"""Each script, its keys by their names in ``keys.TrialKeys``, its arguments, and its reply."""


async def try_scripts(client: Redis, lane: int | None = None) -> None:
    """Raise ServerRefusesError, with the cause and a remedy, if a script cannot do its work; or UnavailableError.

    ``lane``: in a cluster, the one in whose slot it is tried.
    """
    with redis_errors():
        replies = await answers(client, lane)
    check(replies)


class Trial:
    """One process's trials. They write, and anyone may call /readyz: one at a time, and not soon after one passed."""

    def __init__(self, topology: Topology) -> None:
        self._nodes = topology.nodes
        self._turns = {node: asyncio.Lock() for node in topology.nodes}
        self._passed_s = dict.fromkeys(topology.nodes, -math.inf)

    async def run(self) -> None:
        """As ``try_scripts`` on every server, unless its last trial passed a moment ago."""
        await asyncio.gather(*map(self.run_on, self._nodes))

    async def run_on(self, node: Node) -> None:
        """The same on one server."""
        async with self._turns[node]:
            if monotonic() - self._passed_s[node] >= AGAIN_S:
                await try_scripts(node.client, node.lane)
                self._passed_s[node] = monotonic()


async def try_scripts_at_start(node: Node, *, is_one_of_several: bool = False) -> None:
    """The same at a process's start. Raises OperatorError, but only logs an error that ends by itself."""
    try:
        check(await answers(node.client, node.lane))
    except (RedisError, OSError) as error:
        if not is_passing(error) and not (is_one_of_several and is_away(error)):
            raise as_operators(error) from None
        failure_of(error)
    except ServerRefusesError as error:
        raise OperatorError(str(error)) from None


async def answers(client: Redis, lane: int | None = None) -> list[Any]:
    """The server's replies to the whole trial, in a lane's slot if one is given. Raises the client's errors."""
    trial = keys.trial(lane)
    async with client.pipeline(transaction=True) as pipeline:
        pipeline.execute_command("UNLINK", *trial)
        pipeline.execute_command("HSET", trial.lane, "epoch", _EPOCH, "position", 0, "applied", 0)
        for script, fields, arguments, _ in _STEPS:
            names = [getattr(trial, field) for field in fields]
            pipeline.execute_command("EVAL", script.source, len(names), *names, *arguments)
        pipeline.execute_command("XTRIM", trial.events, "MINID", "1-1")
        pipeline.execute_command("UNLINK", *trial)
        replies: list[Any] = await pipeline.execute()
    return replies


def check(replies: list[Any]) -> None:
    """Raise ServerRefusesError unless each script has answered as its header says."""
    for (script, _, _, wanted), reply in zip(_STEPS, replies[2:], strict=False):
        if reply != [word.encode() if isinstance(word, str) else word for word in wanted]:
            raise ServerRefusesError(f"Redis does not run {script.name}.lua as it is written: it answers {reply!r}.")
