"""Whether a process can do its work, asked of every server at the same time."""

import asyncio
from dataclasses import dataclass, field

import asyncpg

from engine.claiming.acks import Acks
from engine.errors import UnavailableError
from engine.lanes.store import Store
from engine.lanes.stream import EventStream
from engine.lanes.topology import Node
from engine.lanes.trial import Trial
from engine.ledger.database import ledger_errors
from engine.ledger.trial import why_read_only
from engine.records import Ack
from engine.recovery import epochs

READY_S_MAX = 0.8
"""Probes often wait a second (Kubernetes does), and an answer says more than a timeout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """``reasons``: why the process cannot do its work; empty if it is ready. ``not_serving``: why some lanes wait."""

    reasons: list[str] = field(default_factory=list)
    not_serving: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What was found of one server's lanes."""

    sentences: list[str]
    has_serving: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What is asked. ``lanes``: those in the ledger."""

    pool: asyncpg.Pool
    store: Store
    stream: EventStream
    trial: Trial
    acks: Acks
    lanes: tuple[int, ...]
    backlog_max: int

    async def run(self) -> Readiness:
        """Ask, for at most ``READY_S_MAX``: probes do not wait long, and a server that needs longer is not healthy.

        With one server, every lane must serve. With several, one lane is enough: a server that is away takes its own
        lanes with it, and would take all processes out of their balancer.
        """
        ends_s = asyncio.get_running_loop().time() + READY_S_MAX
        by_node = self.store.topology.by_node(self.lanes)
        ledger = asyncio.create_task(self._ledger(ends_s))
        found = await asyncio.gather(*(self._node(node, lanes, ledger, ends_s) for node, lanes in by_node.items()))
        reasons = await ledger
        sentences = [sentence for one in found for sentence in one.sentences]
        is_several = len(self.store.topology.nodes) > 1
        if not reasons and is_several and any(one.has_serving for one in found):
            return Readiness(not_serving=sentences)
        return Readiness(reasons=[*reasons, *sentences], not_serving=[])

    async def _ledger(self, ends_s: float) -> list[str]:
        try:
            async with asyncio.timeout_at(ends_s):
                with ledger_errors():
                    read_only = await why_read_only(self.pool)
        except TimeoutError:
            return [_silent("Postgres")]
        except UnavailableError as error:
            return [str(error)]
        return [] if read_only is None else [read_only]

    async def _node(self, node: Node, lanes: list[int], ledger: "asyncio.Task[list[str]]", ends_s: float) -> _Found:
        asked = node.name
        try:
            async with asyncio.timeout_at(ends_s):
                await self.trial.run_on(node)
            if await ledger:
                return _Found(sentences=[], has_serving=False)
            asked = f"{node.name} or Postgres"
            async with asyncio.timeout_at(ends_s):
                return await self._look(node, lanes)
        except TimeoutError:
            why = _silent(asked)
        except UnavailableError as error:
            why = str(error)
        return _Found(sentences=[_of_lanes(node, lanes, why)], has_serving=False)

    async def _look(self, node: Node, lanes: list[int]) -> _Found:
        with ledger_errors():
            fenced = await epochs.fenced(self.pool, self.store, backlog_max=self.backlog_max, lanes=lanes)
            is_awaited = self.acks.setting is Ack.LEDGER
            blocked = await epochs.blocked(self.pool, self.stream, is_ledger_awaited=is_awaited, lanes=lanes)
        sentences = [*fenced.values(), *blocked.values()]
        if (unconfirmed := await self.acks.reason(node)) is not None:
            return _Found(sentences=[*sentences, _of_lanes(node, lanes, unconfirmed)], has_serving=False)
        return _Found(sentences=sentences, has_serving=any(lane not in fenced | blocked for lane in lanes))


def _silent(asked: str) -> str:
    return f"{asked} has not answered within {READY_S_MAX:g} s."


def _of_lanes(node: Node, lanes: list[int], why: str) -> str:
    """With several servers, a sentence about one names its lanes."""
    if not node.place:
        return why
    named = f"Lane {lanes[0]} waits" if len(lanes) == 1 else f"Lanes {', '.join(map(str, lanes))} wait"
    return f"{named} for {node.name}: {why}"
