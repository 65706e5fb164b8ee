"""What must have happened before a claim is acknowledged. The server's setting applies, or its packet's if stronger.

memory: Redis has decided. fsync: the claim is on Redis's disk. replica: Redis's replicas have it. ledger: the ledger's
transaction has committed. For fsync and replica, Redis is asked on the claim's own connection: no other server can
answer. A repeated claim waits as the first one did, so no share is acknowledged too early.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

from redis.exceptions import RedisError, ResponseError

from engine.claiming.checkpoints import Checkpoints
from engine.errors import (
    FieldProblem,
    HongbaoError,
    InvalidFieldsError,
    OperatorError,
    UnavailableError,
    UnconfirmedError,
)
from engine.lanes import keys
from engine.lanes.connections import Lent
from engine.lanes.durability import FsyncBy, connected_replicas, fsync_by
from engine.lanes.topology import Node, Topology
from engine.observability import metrics
from engine.records import Ack, ClaimReply, Outcome, strongest
from engine.settings import Settings

Tell = Callable[[Sequence[int], HongbaoError | None], None]
"""Takes the places of claims and the reason why they are not acknowledged (None if they are)."""

_ACKS = {ack.value[0]: ack for ack in Ack}
_GIVEN = frozenset({Outcome.CLAIMED, Outcome.ALREADY})
_SAID_S = 0.5
"""The server has its own timeout. We wait this much longer, to receive its report."""
_UNCONFIRMED = {
    Ack.FSYNC: "The claim stands, but it may not be on disk yet: repeat it for its answer.",
    Ack.REPLICA: "The claim stands, but too few replicas may have it yet: repeat it for its answer.",
    Ack.LEDGER: "The claim stands, but the ledger does not have it yet: repeat it for its answer.",
}


class Decided(NamedTuple):
    """A call of the claim script that Redis has answered, and its own connection (None: it had none)."""

    lane: int
    reply: ClaimReply
    lent: Lent | None

    def give_back(self) -> None:
        """Let other calls use the connection."""
        if self.lent is not None:
            self.lent.give_back()


class Acks:
    """One process's rules and waiting. Each lane's own server is asked."""

    def __init__(self, settings: Settings, topology: Topology, checkpoints: Checkpoints) -> None:
        for metric in (metrics.ACK_SECONDS, metrics.UNCONFIRMED):
            metrics.show(metric, *_UNCONFIRMED)
        self.setting = settings.ack
        self._topology, self._checkpoints = topology, checkpoints
        self._replicas, self._timeout_s = settings.ack_replicas, settings.ack_timeout_s
        self._fsync_by: dict[Node, FsyncBy] = {}

    async def check(self) -> None:
        """Raise OperatorError if Redis cannot do what the setting requires. ``reason`` watches the replicas."""
        if self.setting is Ack.FSYNC:
            await asyncio.gather(*map(self._check_fsync, self._topology.nodes))
        if self.setting is Ack.LEDGER:
            self._checkpoints.listen()

    async def _check_fsync(self, node: Node) -> None:
        try:
            self._fsync_by[node] = await fsync_by(node.client)
        except UnavailableError:
            if len(self._topology.nodes) == 1:
                raise
            # One of several may be away at the start. It is asked before its first claim is acknowledged.

    async def reason(self, node: Node) -> str | None:
        """Why a server's claims cannot be acknowledged at this moment, or None. Raises UnavailableError."""
        if self.setting is Ack.FSYNC:
            self._fsync_by.pop(node, None)
            try:
                self._fsync_by[node] = await fsync_by(node.client)
            except OperatorError as error:
                return str(error)
        if self.setting is Ack.REPLICA and (found := await connected_replicas(node.client)) < self._replicas:
            return f"{node.name} has {found} of the {self._replicas} replicas that a claim must reach."
        return None

    async def admit(self, ack: Ack | None, lane: int) -> None:
        """Raise InvalidFieldsError if a packet asks for more than the setting and its lane's server cannot do it."""
        node = self._topology.node_of(lane)
        if ack is Ack.FSYNC and node not in self._fsync_by:
            try:
                self._fsync_by[node] = await fsync_by(node.client)
            except OperatorError:
                raise InvalidFieldsError(
                    [FieldProblem("ack", "cannot be fsync: Redis is not configured for it")]
                ) from None
        if ack is Ack.REPLICA and ack is not self.setting and await connected_replicas(node.client) < self._replicas:
            raise InvalidFieldsError([FieldProblem("ack", "cannot be replica: too few Redis replicas are connected")])

    def waiting(self, asked: Mapping[str, Sequence[str]], reply: ClaimReply) -> dict[Ack, list[int]]:
        """The places of the claims that cannot be acknowledged yet, by what they wait for.

        Only claims that got a share wait. All others are answered at once.
        """
        if reply.acks is None and self.setting is Ack.MEMORY:
            return {}
        waiting: dict[Ack, list[int]] = {}
        first = 0
        for number, users in enumerate(asked.values()):
            ack = self.setting if reply.acks is None else strongest(self.setting, _ACKS.get(reply.acks[number]))
            given = [place for place in range(first, first + len(users)) if reply.results[place].outcome in _GIVEN]
            if ack is not Ack.MEMORY and given:
                waiting.setdefault(ack, []).extend(given)
            first += len(users)
        return waiting

    async def confirm(self, decided: Decided, waiting: Mapping[Ack, Sequence[int]], tell: Tell) -> None:
        """Wait for everything in ``waiting``. Calls ``tell`` once per kind, when that kind's wait is over.

        Returns the connection as soon as Redis is needed no longer.
        """
        jobs = [self._by_redis(decided, waiting, tell)]
        if Ack.LEDGER in waiting:
            reply = decided.reply
            reached = self._checkpoints.reached(decided.lane, reply.lane_token, reply.position)
            jobs.append(self._bounded(Ack.LEDGER, waiting, reached, tell))
        await asyncio.gather(*jobs)

    async def in_ledger(self, lane: int, lane_token: str, position: int) -> bool:
        """Whether the ledger has a lane's changes up to ``position``. Waits for them as long as a claim would."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._checkpoints.reached(lane, lane_token, position)
        except (TimeoutError, UnconfirmedError):
            return False
        return True

    async def _by_redis(self, decided: Decided, waiting: Mapping[Ack, Sequence[int]], tell: Tell) -> None:
        """Ask Redis for each kind in turn, on one connection."""
        try:
            for ack, ask in ((Ack.FSYNC, self._on_disk), (Ack.REPLICA, self._on_replicas)):
                if ack in waiting:
                    await self._bounded(ack, waiting, ask(decided), tell)
        finally:
            decided.give_back()

    async def _bounded(self, ack: Ack, waiting: Mapping[Ack, Sequence[int]], work: Awaitable[None], tell: Tell) -> None:
        """Wait for ``work`` as long as the settings allow, and report how it went."""
        started_s = perf_counter()
        failed: HongbaoError | None = None
        try:
            async with asyncio.timeout(self._timeout_s + _SAID_S if ack is not Ack.LEDGER else self._timeout_s):
                await work
        except (UnavailableError, OperatorError, RedisError, OSError):  # a TimeoutError is one of them
            failed = UnconfirmedError(_UNCONFIRMED[ack])
        except Exception as error:  # every waiting claim must be answered, whatever the error
            failed = HongbaoError("A claim could not be confirmed.")
            failed.__cause__ = error
        metrics.ACK_SECONDS.labels(ack.value).observe(perf_counter() - started_s)
        if failed is not None:
            metrics.UNCONFIRMED.labels(ack.value).inc(len(waiting[ack]))
        tell(waiting[ack], failed)

    async def _on_disk(self, decided: Decided) -> None:
        node = self._topology.node_of(decided.lane)
        if node not in self._fsync_by:
            self._fsync_by[node] = await fsync_by(node.client)
        if self._fsync_by.get(node) is FsyncBy.WAITAOF:
            try:
                on_disk, _ = await self._ask(Ack.FSYNC, decided, "WAITAOF", 1, 0)
            except ResponseError:  # the server was replaced or its settings have changed
                self._fsync_by.pop(node, None)
                raise
            if on_disk < 1:
                raise UnconfirmedError(_UNCONFIRMED[Ack.FSYNC])

    async def _on_replicas(self, decided: Decided) -> None:
        if await self._ask(Ack.REPLICA, decided, "WAIT", self._replicas) < self._replicas:
            raise UnconfirmedError(_UNCONFIRMED[Ack.REPLICA])

    async def _ask(self, ack: Ack, decided: Decided, *words: str | int) -> Any:  # noqa: ANN401 -- any reply
        """The server's answer, within the settings' time, about everything written to it so far."""
        if decided.lent is None:
            raise UnavailableError("A claim without its own connection cannot be confirmed.")
        # The operator's setting may slow everyone down. A sender's stronger wish may not.
        wait = partial(decided.lent.wait, is_patient=ack is self.setting)
        if all(result.outcome is not Outcome.CLAIMED for result in decided.reply.results):
            # The server answers for this connection's writes only. A repeat's claim came on another: write here, too.
            await wait("HINCRBY", keys.lane(decided.lane), "position", 0, timeout_s=self._timeout_s)
        return await wait(*words, int(self._timeout_s * 1000), timeout_s=self._timeout_s + _SAID_S)
