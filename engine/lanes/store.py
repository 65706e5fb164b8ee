"""The lanes' scripts: one typed function per script, on top of the reads in ``reader``.

A script's header in ``lua/`` is its contract. ``tests/scripts/test_script_contracts.py`` compares both.
Every function raises RecoveringError if the lane is fenced, ServerRefusesError if Redis refuses, UndecidedError if the
change may have been made, and otherwise UnavailableError with ``is_undone``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from engine.errors import RecoveringError, UndecidedError
from engine.ids import lane_of
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.connections import Connections, Lent, ReplacedServerError, lane_token_of
from engine.lanes.failures import redis_errors
from engine.lanes.reader import LaneReader
from engine.lanes.replies import Claimed, Closed, CloseReason, Extended, Followed, Noted, Opened
from engine.lanes.scripts import Script
from engine.lanes.topology import Topology
from engine.records import Ack, ClaimReply, ClaimResult, LimitedResult, Outcome

ARRIVAL_RETRY_MS = 5_000
"""When the sweeper tries again to claim an arrived transfer, if a sweeper died or the recipient was frozen."""
ANY_TIME_MS = 2**53 - 1
_FENCED, _MALFORMED = Claimed.FENCED.encode(), Claimed.MALFORMED.encode()
"""Every script may reply with these. They are compared as bytes, because this is done once per call."""
_OUTCOMES = {ord(outcome): outcome for outcome in Outcome}
_LIMITED = Outcome.LIMITED.encode()
LIMITED_PER_CALL_MAX = 2_000
"""The limit script's bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some shares of a packet on their way into Redis. ``shares`` are "slot:amount_fen" in the order of giving."""

    packet_id: str
    offset: int
    count: int
    total_fen: int
    expires_at_ms: int
    luckiest_share: str
    ack: Ack | None
    arrives_at_ms: int | None
    recipients: Sequence[str]
    shares: Sequence[str]


class Store(LaneReader):
    """All lanes, each on its own server. ``epochs``: lane -> its epoch in the ledger. ``servers``: lane -> the run id
    of the server whose data the ledger vouches for, if it has one. Scripts run only there.

    A node's kept connections send the scripts: such a connection knows its server, and makes the lane token from the
    epoch. If a node has none, its client sends them, and ``epochs`` must contain complete lane tokens.
    """

    def __init__(
        self,
        topology: Topology,
        epochs: Mapping[int, str],
        servers: Mapping[int, str] = MappingProxyType({}),
        paused: set[int] | None = None,
    ) -> None:
        super().__init__(topology)
        self.paused = set[int]() if paused is None else paused
        """Lanes that have refused, or whose server has not answered. No new packet goes there if others serve."""
        self.on_fenced: Callable[[int], None] = _nobody_listens
        """Called with each lane that refused."""
        self.epochs, self.servers = epochs, servers
        self._open, self._claim, self._close = Script("open"), Script("claim"), Script("close")
        self._view, self._freeze, self._limit = Script("view"), Script("freeze"), Script("limit")
        self._extend = Script("extend")

    def _epoch(self, lane: int) -> str:
        epoch = self.epochs.get(lane)
        if epoch is None:
            raise RecoveringError(f"Lane {lane} has not been prepared by this process yet.")
        return epoch

    async def _call(
        self,
        script: Script,
        lane: int,
        names: list[str],
        arguments: list[str | int],
        kept: Connections | Lent | None,
        *,
        epoch: str | None = None,
    ) -> list[Any]:
        """``kept`` None: it goes by the client of the lane's server."""
        all_keys = [keys.lane(lane), *names]
        # EVALSHA, its hash, how many keys, the keys, and then the epoch.
        server = self.servers.get(lane, "")
        if kept is None:
            send = partial(command, self.client_of(lane))
        else:
            send = partial(kept.call, epoch_at=3 + len(all_keys), server=server)
        with redis_errors(of_change=kept is not None):
            try:
                reply = await script.call(send, all_keys, [epoch or self._epoch(lane), *arguments])
            except ReplacedServerError:
                raise self._paused(lane) from None
        if reply[0] == _FENCED:
            raise self._paused(lane)
        if server and server != self.servers.get(lane, server):
            raise UndecidedError(f"Lane {lane} has moved to another server meanwhile, which may not have this change.")
        if reply[0] == _MALFORMED:
            raise ValueError(f"{script.name}.lua refused the form of its arguments")
        return reply

    def _paused(self, lane: int) -> RecoveringError:
        self.paused.add(lane)
        self.on_fenced(lane)
        return super()._paused(lane)

    def pause_server_of(self, lane: int) -> None:
        """Note that a lane's server has not answered. Whoever looks at it next finds out when it does again."""
        node = self.topology.node_of(lane)
        self.paused.update(held for held in self.epochs if self.topology.node_of(held).is_beside(node))
        self.on_fenced(lane)

    async def open(self, chunk: Chunk, *, not_after_ms: int, epoch: str | None = None) -> tuple[Opened, int]:
        """Load one chunk. Returns the reply, and how many shares are loaded (0 if the reply does not say).

        ``epoch``: the lane's epoch before the ledger was read, if the lane must not have been rebuilt since.
        """
        packet_id = chunk.packet_id
        lane = lane_of(packet_id)
        names = [keys.events(lane), keys.due(lane)]
        names += [keys.packet(packet_id), keys.shares(packet_id), keys.recipients(packet_id)]
        arguments: list[str | int] = [
            packet_id,
            not_after_ms,
            chunk.offset,
            chunk.count,
            chunk.total_fen,
            chunk.expires_at_ms,
            chunk.luckiest_share,
            chunk.ack or "",
            "" if chunk.arrives_at_ms is None else chunk.arrives_at_ms,
            len(chunk.recipients),
            *chunk.recipients,
            *chunk.shares,
        ]
        reply = await self._call(self._open, lane, names, arguments, self._changing_of(lane), epoch=epoch)
        word = Opened(reply[0].decode())
        return word, reply[1] if word in (Opened.OFFSET, Opened.LOADED) else 0

    def _changing_of(self, lane: int) -> Connections | None:
        return self.topology.node_of(lane).changing

    def lend(self, lane: int) -> Lent | None:
        """A kept connection for a claim, because its acknowledgement may wait on it. None if there are no kept ones."""
        kept = self.topology.node_of(lane).claiming
        return None if kept is None else kept.lend()

    async def claim(
        self, lane: int, asked: Mapping[str, Sequence[str]], *, backlog_max: int, lent: Lent | None = None
    ) -> ClaimReply:
        """Claim for ``asked`` (packet -> users, at most 1,000 in all). The results are in the order of iteration.

        ``lent``: the connection for it.
        """
        names = [*keys.claimed_in(lane)]
        arguments: list[str | int] = [backlog_max]
        for packet_id, users in asked.items():
            names += keys.all_of(packet_id)
            arguments += (packet_id, len(users), *users)
        epoch = self._epoch(lane)
        kept = lent or self.topology.node_of(lane).claiming
        reply = await self._call(self._claim, lane, names, arguments, kept)
        _, letters, values, position, *acks = reply
        results = list(map(ClaimResult, map(_OUTCOMES.__getitem__, letters), values))
        if _LIMITED in letters:
            results = [_with_its_end(result) for result in results]
        lane_token = epoch if lent is None else lane_token_of(epoch, lent.run_id)
        return ClaimReply(results, position, lane_token, acks[0].decode() if acks else None)

    async def close(
        self,
        packet_id: str,
        reason: CloseReason,
        *,
        not_after_ms: int = ANY_TIME_MS,
        retry_ms: int = ARRIVAL_RETRY_MS,
    ) -> tuple[Closed, int, int]:
        """End a packet. Returns the reply and, with CLOSED, how many shares and fen go back.

        ``not_after_ms``: when it is too late for RETRACTED. ``retry_ms``: the caller's time to give it after ARRIVED.
        """
        lane = lane_of(packet_id)
        names = [keys.events(lane), keys.due(lane), keys.packet(packet_id), keys.shares(packet_id)]
        arguments: list[str | int] = [packet_id, reason.value, not_after_ms, retry_ms]
        reply = await self._call(self._close, lane, names, arguments, self._changing_of(lane))
        word = Closed(reply[0].decode())
        return (word, reply[1], reply[2]) if word is Closed.CLOSED else (word, 0, 0)

    async def extend(self, packet_id: str, expires_at_ms: int) -> Extended:
        """Let a packet be claimed until ``expires_at_ms``, which the ledger has."""
        lane = lane_of(packet_id)
        names = [keys.due(lane), keys.packet(packet_id)]
        arguments: list[str | int] = [packet_id, expires_at_ms]
        reply = await self._call(self._extend, lane, names, arguments, self._changing_of(lane))
        return Extended(reply[0].decode())

    async def note_view(
        self, packet_id: str, user_id: str, *, consents: bool, not_after_ms: int, named_max: int
    ) -> tuple[Noted, int, int]:
        """Note that a user has viewed a packet, or consents to its retraction, until ``not_after_ms``.

        Returns the reply and, with NOTED, the number of viewers and of consents.
        """
        what = "consent" if consents else "view"
        arguments: list[str | int] = [user_id, what, not_after_ms, named_max]
        names, lane = [keys.packet(packet_id)], lane_of(packet_id)
        reply = await self._call(self._view, lane, names, arguments, self._changing_of(lane))
        word = Noted(reply[0].decode())
        return (word, reply[1], reply[2]) if word is Noted.NOTED else (word, 0, 0)

    async def freeze(self, lane: int, after: int, version: int, frozen: Sequence[str], lifted: Sequence[str]) -> int:
        """Bring a lane from change ``after`` to ``version``. Returns the change that it has then."""
        arguments: list[str | int] = [after, version, len(frozen), *frozen, *lifted]
        reply = await self._call(self._freeze, lane, [keys.frozen(lane)], arguments, self._changing_of(lane))
        return version if Followed(reply[0].decode()) is Followed.FOLLOWED else int(reply[1])

    async def limit(self, lane: int, after: int, version: int, untils_ms: Mapping[str, int]) -> int:
        """Bring a lane from change ``after`` to ``version``. Returns the change that it has then.

        ``untils_ms``: the time until which each user may not claim, 0 if they may; at most ``LIMITED_PER_CALL_MAX``
        users. If ``version`` is smaller than ``after``, the lane forgets all earlier changes.
        """
        arguments: list[str | int] = [after, version]
        for user_and_until in untils_ms.items():
            arguments += user_and_until
        reply = await self._call(self._limit, lane, [keys.limited(lane)], arguments, self._changing_of(lane))
        return version if Followed(reply[0].decode()) is Followed.FOLLOWED else int(reply[1])

    async def begin_lane(self, lane: int, epoch: str) -> None:
        """Write a lane that has never been used. Values that are there stay as they are."""
        node = self.topology.node_of(lane)
        client = partial(command, node.client)
        send = client if node.changing is None else partial(node.changing.call, epoch_at=3)
        with redis_errors():
            for name in ("position", "applied"):
                await client("HSETNX", keys.lane(lane), name, 0)
            await send("HSETNX", keys.lane(lane), "epoch", epoch)  # last, because from now on the lane serves

    async def fence(self, lane: int) -> None:
        """Take the lane's epoch away, so that every script refuses it until the lane is rebuilt."""
        with redis_errors():
            await command(self.client_of(lane), "HSET", keys.lane(lane), "epoch", "")


def _with_its_end(result: ClaimResult) -> ClaimResult:
    if result.outcome is not Outcome.LIMITED:
        return result
    return LimitedResult(Outcome.LIMITED, 0, until_ms=result.amount_fen)


def _nobody_listens(_lane: int) -> None:
    pass
