"""What must have happened before a claim is acknowledged, by the server's setting or, if that is more, its packet's.

memory: Redis has decided. fsync: what it wrote is on its disk. replica: its replicas have it. ledger: the ledger's
transaction has committed. Redis is asked for the second and third on the connection by which the claim went, so that
it can be no other server that says so. A repeat waits as the first time did: nobody is told of a share too early.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from engine import keys, metrics
from engine.checkpoints import Checkpoints
from engine.connections import Lent
from engine.durability import FsyncBy, connected_replicas, fsync_by
from engine.errors import (
    FieldProblem,
    HongbaoError,
    InvalidFieldsError,
    OperatorError,
    UnavailableError,
    UnconfirmedError,
)
from engine.records import Ack, ClaimReply, Outcome, strongest
from engine.settings import Settings

Tell = Callable[[Sequence[int], HongbaoError | None], None]
"""Takes the places of claims, and why they are not acknowledged, None if they are."""

_ACKS = {ack.value[0]: ack for ack in Ack}
_GIVEN = frozenset({Outcome.CLAIMED, Outcome.ALREADY})
_SAID_S = 0.5
"""How much longer than the server itself we wait for its word that it waited in vain."""
_UNCONFIRMED = {
    Ack.FSYNC: "The claim stands, but is not known to be on disk yet: ask again.",
    Ack.REPLICA: "The claim stands, but too few replicas are known to have it yet: ask again.",
    Ack.LEDGER: "The claim stands, but the ledger does not have it yet: ask again.",
}


class Acks:
    """One process's rules and waiting."""

    def __init__(self, settings: Settings, redis: Redis, checkpoints: Checkpoints) -> None:
        self.setting = settings.ack
        self._redis, self._checkpoints = redis, checkpoints
        self._replicas, self._timeout_s = settings.ack_replicas, settings.ack_timeout_s
        self._fsync_by: FsyncBy | None = None

    async def check(self) -> None:
        """Raise OperatorError when Redis cannot do what the setting asks of it. Replicas come and go: ``reasons``."""
        if self.setting is Ack.FSYNC:
            self._fsync_by = await fsync_by(self._redis)
        if self.setting is Ack.LEDGER:
            self._checkpoints.listen()

    async def reasons(self) -> list[str]:
        """One sentence for what keeps claims from being acknowledged at this moment. Raises UnavailableError."""
        if self.setting is Ack.FSYNC:
            self._fsync_by = None
            try:
                self._fsync_by = await fsync_by(self._redis)
            except OperatorError as error:
                return [str(error)]
        if self.setting is Ack.REPLICA and (found := await connected_replicas(self._redis)) < self._replicas:
            return [f"Redis has {found} of the {self._replicas} replicas that must have a claim."]
        return []

    async def admit(self, ack: Ack | None) -> None:
        """Raise InvalidFieldsError for a packet that asks for what this Redis cannot do."""
        if ack is Ack.FSYNC and self._fsync_by is None:
            try:
                self._fsync_by = await fsync_by(self._redis)
            except OperatorError:
                raise InvalidFieldsError([FieldProblem("ack", "cannot be fsync: Redis is not set for it")]) from None

    def waiting(self, asked: Mapping[str, Sequence[str]], reply: ClaimReply) -> dict[Ack, list[int]]:
        """The places of the claims that are not to be acknowledged yet, by what they wait for.

        Only shares are acknowledged; who has none is told so at once.
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

    async def confirm(
        self, lane: int, reply: ClaimReply, waiting: Mapping[Ack, Sequence[int]], lent: Lent | None, tell: Tell
    ) -> None:
        """Wait for all that ``waiting`` names; ``tell`` hears of each kind when it is over, once."""
        jobs = []
        if Ack.LEDGER in waiting:
            jobs.append(
                self._bounded(Ack.LEDGER, waiting, self._checkpoints.reached(lane, reply.word, reply.position), tell)
            )
        if Ack.FSYNC in waiting or Ack.REPLICA in waiting:
            jobs.append(self._by_redis(lane, reply, waiting, lent, tell))
        await asyncio.gather(*jobs)

    async def in_ledger(self, lane: int, word: str, position: int) -> bool:
        """Whether the ledger holds a lane's changes up to ``position``, as long as a claim would wait for it."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._checkpoints.reached(lane, word, position)
        except (TimeoutError, UnconfirmedError):
            return False
        return True

    async def _by_redis(
        self, lane: int, reply: ClaimReply, waiting: Mapping[Ack, Sequence[int]], lent: Lent | None, tell: Tell
    ) -> None:
        """Ask Redis, on one connection, for one thing after the other."""
        is_written = any(result.outcome is Outcome.CLAIMED for result in reply.results)
        for ack, ask in ((Ack.FSYNC, self._on_disk), (Ack.REPLICA, self._on_replicas)):
            if ack in waiting:
                await self._bounded(ack, waiting, ask(lane, lent, is_written=is_written), tell)

    async def _bounded(self, ack: Ack, waiting: Mapping[Ack, Sequence[int]], work: Awaitable[None], tell: Tell) -> None:
        """Wait for ``work`` as long as the settings allow, and tell how it went."""
        started_s = perf_counter()
        failed: HongbaoError | None = None
        try:
            async with asyncio.timeout(self._timeout_s + _SAID_S if ack is not Ack.LEDGER else self._timeout_s):
                await work
        except (UnavailableError, OperatorError, RedisError, OSError):  # a TimeoutError is one of them
            failed = UnconfirmedError(_UNCONFIRMED[ack])
        except Exception as error:  # whatever it is, everyone who waits must hear of it
            failed = HongbaoError("A claim could not be confirmed.")
            failed.__cause__ = error
        metrics.ACK_SECONDS.labels(ack.value).observe(perf_counter() - started_s)
        if failed is not None:
            metrics.UNCONFIRMED.labels(ack.value).inc(len(waiting[ack]))
        tell(waiting[ack], failed)

    async def _on_disk(self, lane: int, lent: Lent | None, *, is_written: bool) -> None:
        if self._fsync_by is None:
            self._fsync_by = await fsync_by(self._redis)
        if self._fsync_by is FsyncBy.WAITAOF:
            try:
                on_disk, _ = await self._ask(lane, lent, "WAITAOF", 1, 0, is_written=is_written)
            except ResponseError:  # another server than it was, or set otherwise
                self._fsync_by = None
                raise
            if on_disk < 1:
                raise UnconfirmedError(_UNCONFIRMED[Ack.FSYNC])

    async def _on_replicas(self, lane: int, lent: Lent | None, *, is_written: bool) -> None:
        if await self._ask(lane, lent, "WAIT", self._replicas, is_written=is_written) < self._replicas:
            raise UnconfirmedError(_UNCONFIRMED[Ack.REPLICA])

    async def _ask(self, lane: int, lent: Lent | None, *words: str | int, is_written: bool) -> Any:  # noqa: ANN401
        """What the server says, within the settings' time, of all that is written in it by now."""
        if lent is None:
            raise UnavailableError("A claim without a connection of its own cannot be confirmed.")
        if not is_written:
            # It speaks of what came by this connection, and a repeat was written by another. This is written, too.
            await lent.wait("HINCRBY", keys.lane(lane), "position", 0, timeout_s=self._timeout_s)
        return await lent.wait(*words, int(self._timeout_s * 1000), timeout_s=self._timeout_s + _SAID_S)
