"""Plays the faults of a cluster, each on the master that holds a lane at that moment, and waits until all is whole."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from redis.exceptions import RedisError

from engine.embedded.redis_node import RedisNode
from engine.errors import HongbaoError
from engine.lanes import keys
from engine.recovery.placing import Placing
from engine.settings import Settings
from loadtest.chaos.breaker import Breaker, NotBackError, until
from loadtest.chaos.history import Struck
from loadtest.chaos.processes import send
from loadtest.chaos.schedule import Fault, Kind, lane_in
from loadtest.nodes import Nodes

_WHOLE_S_MAX = 90.0
_REPLACED_S_MAX = 30.0
_REPLICATED_S_MAX = 20.0
_MOVED_S_MAX = 60.0
_ASKED_S_MAX = 20.0
_JOIN_TRIES = 10
_TRY_S = 6.0
"""After this time an ordered failover or a slot's move is ordered again: the nodes give up after five seconds."""
_LOOK_S, _POLL_S = 0.03, 0.15
"""A look at one node, and at all of them."""
_AWAY = (RedisError, OSError)
Answer = TypeVar("Answer")
Arguments = ParamSpec("Arguments")
_ALL_PACKETS, _NO_PACKETS = "-2", "-1"
"""Which packets from other nodes DEBUG DROP-CLUSTER-PACKET-FILTER drops."""


@dataclass(slots=True)
class _Times:
    """The moments of a fault, as ``history.Struck`` has them. ``refused_s`` None: not noticed."""

    struck_s: float = 0.0
    resumed_s: float = 0.0
    refused_s: float | None = None
    again: int = 0


@dataclass(slots=True, kw_only=True)
class ClusterBreaker(Breaker):
    """``settings``: with which lanes are moved."""

    nodes: Nodes
    settings: Settings
    _cut_off: list[tuple[RedisNode, RedisNode]] = field(default_factory=list)

    async def play(
        self, faults: Sequence[Fault], told: Callable[[Fault], None], back: Callable[[], Awaitable[None]]
    ) -> None:
        """As ``Breaker.play``, one by one: after each fault of the cluster, the cluster must be whole again."""
        is_whole = False
        for fault in faults:
            await asyncio.sleep(fault.after_s)
            lane = lane_in(fault.target)
            if lane is None:
                await self.do(fault)
                is_whole = False
            else:
                if not is_whole:
                    await self.heal()
                    await self._whole(back)
                await self._strike(fault, lane, back)
                is_whole = True
            told(fault)

    def undo(self) -> None:
        """Undo everything at once."""
        Breaker.undo(self)
        self._join()

    async def _whole(self, back: Callable[[], Awaitable[None]]) -> None:
        why: str | None = None

        async def is_whole() -> bool:
            nonlocal why
            why = await asyncio.to_thread(self.nodes.why_not_whole)
            return why is None

        try:
            await until(is_whole, _WHOLE_S_MAX, "", _POLL_S)
        except NotBackError:
            raise NotBackError(f"The cluster is not whole after {_WHOLE_S_MAX:.0f} s: {why}.") from None
        await back()

    async def _strike(self, fault: Fault, lane: int, back: Callable[[], Awaitable[None]]) -> None:
        master, replica = await self._found_master(lane)
        is_of_lane = fault.kind in (Kind.MOVE, Kind.SLOT)
        lanes = (lane,) if is_of_lane else await _asked(self.nodes.lanes_of, master)
        target = await _asked(self.nodes.least_besides, master) if is_of_lane else master
        replicated_s = await self._replicated(master, replica)
        began_s = self.history.now_s()
        times = _Times()
        match fault.kind:
            case Kind.KILL:
                await self._kill(master, times)
            case Kind.STOP:
                await self._stop_master(master, fault.lasts_s, times)
            case Kind.PARTITION:
                await self._part(master, replica, fault.lasts_s, times)
            case Kind.FAILOVER:
                await self._order(replica, lane, times)
            case Kind.MOVE:
                await self._move(lane, target)
            case Kind.SLOT:
                await self._move_slot(lane, master, target, times)
        await self._whole(back)
        whole_s = self.history.now_s()
        holder = await asyncio.to_thread(self.nodes.holder_of, lane)
        struck = Struck(
            kind=fault.kind,
            target=f"{fault.target} at {master.name}",
            lanes=lanes,
            replicated_s=replicated_s,
            began_s=began_s,
            struck_s=times.struck_s or began_s,
            resumed_s=times.resumed_s or began_s,
            refused_s=whole_s if times.refused_s is None else times.refused_s,
            whole_s=whole_s,
            is_replaced=holder is not master,
            again=times.again,
        )
        self.history.add(struck)

    async def _found_master(self, lane: int) -> tuple[RedisNode, RedisNode]:
        async def find() -> tuple[RedisNode, RedisNode] | None:
            with contextlib.suppress(*_AWAY, LookupError):
                master = await asyncio.to_thread(self.nodes.holder_of, lane)
                if master is not None:
                    return master, await asyncio.to_thread(self.nodes.replica_of, master)
            return None

        found = await until(find, _REPLACED_S_MAX, f"no master with a replica held lane {lane}")
        if found is None:
            raise NotBackError(f"No master with a replica holds lane {lane}.")
        return found

    async def _replicated(self, master: RedisNode, replica: RedisNode) -> float:
        """A moment just now: all that the master had answered by then, its replica has."""

        async def has_all() -> float | None:
            with contextlib.suppress(*_AWAY):
                at_s = self.history.now_s()
                if await asyncio.to_thread(self.nodes.has_all_of, replica, master):
                    return at_s
            return None

        found = await until(has_all, _REPLICATED_S_MAX, f"{replica.name} did not catch up with {master.name}")
        return found or 0.0

    async def _kill(self, master: RedisNode, times: _Times) -> None:
        found = await self._found(master.name)
        send(found, signal.SIGKILL)
        times.struck_s = times.refused_s = self.history.now_s()

    async def _stop_master(self, master: RedisNode, lasts_s: float, times: _Times) -> None:
        found = await self._found(master.name)
        self._stopped += found
        send(found, signal.SIGSTOP)
        times.struck_s = self.history.now_s()
        await asyncio.sleep(lasts_s)
        times.resumed_s = self.history.now_s()
        send(found, signal.SIGCONT)
        self._stopped = [process for process in self._stopped if process not in found]
        await self._note_refusal(master, times, _REPLACED_S_MAX)

    async def _part(self, master: RedisNode, replica: RedisNode, lasts_s: float, times: _Times) -> None:
        """Cut a master's replication, and let it hear no other node. Clients reach all of them.

        Redis cannot refuse a replica by itself: the replica forgets the password, and its connection is closed.
        """
        self._cut_off.append((master, replica))
        ends_s = time.monotonic() + lasts_s
        await _asked(replica.ask, "CONFIG", "SET", "masterauth", "cut off")
        await _asked(master.ask, "DEBUG", "DROP-CLUSTER-PACKET-FILTER", _ALL_PACKETS)
        await _asked(master.ask, "CLIENT", "KILL", "TYPE", "replica")
        times.struck_s = self.history.now_s()
        await self._note_refusal(master, times, ends_s - time.monotonic())
        await asyncio.sleep(ends_s - time.monotonic())
        await asyncio.to_thread(self._join)
        times.resumed_s = self.history.now_s()
        if times.refused_s is None:
            await self._note_refusal(master, times, _REPLACED_S_MAX)

    def _join(self) -> None:
        """Let those that were cut off hear all others again, and replicate."""
        for master, replica in self._cut_off:
            for node, words in (
                (replica, ("CONFIG", "SET", "masterauth", self.nodes.password)),
                (master, ("DEBUG", "DROP-CLUSTER-PACKET-FILTER", _NO_PACKETS)),
            ):
                for _ in range(_JOIN_TRIES):  # or it has ended, and its next start forgets all this
                    with contextlib.suppress(*_AWAY):
                        node.ask(*words)
                        break
        self._cut_off.clear()

    async def _note_refusal(self, master: RedisNode, times: _Times, seconds: float) -> None:
        """Note from when on an old master refuses, because it knows of the other or of being alone.

        One that was not replaced goes on: nothing is noted, once all agree on that.
        """

        def refuses() -> bool:
            is_alone = not times.resumed_s and "cluster_state:fail" in master.ask("CLUSTER", "INFO")
            return is_alone or not self.nodes.is_master(master)

        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s:
            with contextlib.suppress(*_AWAY):
                if await asyncio.to_thread(refuses):
                    times.refused_s = self.history.now_s()
                    return
                if times.resumed_s and await asyncio.to_thread(self.nodes.why_not_whole) is None:
                    return
            await asyncio.sleep(_LOOK_S)

    async def _order(self, replica: RedisNode, lane: int, times: _Times) -> None:
        """Have a replica take over from its master, which is well and hands over."""

        async def order() -> None:
            await asyncio.to_thread(replica.ask, "CLUSTER", "FAILOVER")

        times.again = await self._until_held(lane, replica, order)

    async def _move_slot(self, lane: int, source: RedisNode, target: RedisNode, times: _Times) -> None:
        slot, there = keys.slot(lane), await _asked(target.ask, "CLUSTER", "MYID")

        async def order() -> None:
            words = ("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", there)
            await asyncio.to_thread(source.ask, *words)

        times.again = await self._until_held(lane, target, order)

    async def _until_held(self, lane: int, wanted: RedisNode, order: Callable[[], Awaitable[None]]) -> int:
        """Give an order, and again if the nodes have not obeyed in time, until a node holds a lane.

        Returns how many times again.
        """
        deadline_s = time.monotonic() + _MOVED_S_MAX
        again_s, ordered = 0.0, 0
        while await asyncio.to_thread(self.nodes.holder_of, lane) is not wanted:
            if time.monotonic() > deadline_s:
                raise NotBackError(f"{wanted.name} did not take lane {lane} within {_MOVED_S_MAX:.0f} s.")
            if time.monotonic() > again_s:
                again_s = time.monotonic() + _TRY_S
                with contextlib.suppress(*_AWAY):  # it is still at the last one
                    await order()
                    ordered += 1
            await asyncio.sleep(_POLL_S)
        return ordered - 1

    async def _move(self, lane: int, target: RedisNode) -> None:
        """As `hongbao lanes move` does, without the time that a new process takes to start."""
        try:
            async with asyncio.timeout(_MOVED_S_MAX), Placing.open(self.settings) as placing:
                moved = await placing.move(lane, await placing.named(f"127.0.0.1:{target.port}"), lambda _line: None)
        except (HongbaoError, TimeoutError) as error:
            raise NotBackError(f"Lane {lane} was not moved to {target.name}: {error or 'it took too long'}") from None
        if moved is None or not moved.serves:
            raise NotBackError(f"Lane {lane} does not serve after it was moved to {target.name}.")


async def _asked(ask: Callable[Arguments, Answer], *words: Arguments.args, **named: Arguments.kwargs) -> Answer:
    """Ask a node that runs, until it answers: on a busy machine it may be late. Raises NotBackError."""
    deadline_s = time.monotonic() + _ASKED_S_MAX
    while True:
        try:
            return await asyncio.to_thread(ask, *words, **named)
        except _AWAY as error:
            if time.monotonic() > deadline_s:
                raise NotBackError(f"A node did not answer within {_ASKED_S_MAX:.0f} s: {error}") from None
        await asyncio.sleep(_POLL_S)
