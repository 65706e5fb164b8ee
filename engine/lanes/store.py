"""Redis as the engine sees it: one typed function a script, and the reads that go with them.

A script's header in ``lua/`` is its contract; ``tests/scripts/test_script_contracts.py`` holds these functions to it.
Every function raises RecoveringError when the lane is fenced and UnavailableError when Redis does not answer.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from engine.errors import RecoveringError, UnavailableError
from engine.ids import lane_of
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.connections import Connections, Lent, lane_token_of
from engine.lanes.replies import Closed, CloseReason, Noted, Opened
from engine.lanes.scripts import Script, Send
from engine.records import Ack, ClaimReply, ClaimResult, ClaimRow, Outcome, PacketState

USERS_PER_CALL_MAX = 1_000
"""The claim script's bound: its arguments are unpacked on Lua's stack, which overflows near 8,000."""

READ_WHOLE_COUNT_MAX = 1_000
"""Claims of a packet of more shares are never read in one command: it would hold Redis up."""
_SHARES_PAGE = 1_000
_COUNTS = (
    *("state", "count", "total_fen", "remaining_count", "remaining_fen", "invited", "ack"),
    *("luckiest_user", "luckiest_value"),
)
ARRIVAL_RETRY_MS = 5_000
"""So late a transfer is looked at again that has arrived and was not given: a sweeper died, a recipient is frozen."""
ANY_TIME_MS = 2**53 - 1
_OUTCOMES = {ord(outcome): outcome for outcome in Outcome}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveCounts:
    """What Redis knows of a packet that it holds."""

    state: PacketState
    count: int
    total_fen: int
    remaining_count: int
    remaining_fen: int
    invited: bool
    ack: Ack | None
    luckiest: ClaimRow | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneStatus:
    """A lane as Redis has it. ``position``: changes ever emitted; ``applied``: those the ledger has committed.

    ``lane_token`` is what stands there: the epoch, and the run id of the server whose data was verified (None in a
    token that has none). ``server`` is the run id of the server that gave this answer.
    """

    epoch: str
    position: int
    applied: int
    run_id: str | None = field(default=None, compare=False)
    lane_token: str = field(default="", compare=False)
    server: str = field(default="", compare=False)

    @property
    def is_verified(self) -> bool:
        """Whether the server that answered is the one whose data was verified."""
        return self.run_id is None or self.run_id == self.server


class Held(NamedTuple):
    """What Redis holds of a packet. ``left``: the shares nobody has yet, (slot, amount_fen), in the order of giving."""

    counts: LiveCounts
    given: list[ClaimRow]
    left: list[tuple[int, int]]


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turn what the client raises into UnavailableError: nothing was decided, the caller may ask again."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise UnavailableError(f"Redis does not answer: {error}") from error


class Store:
    """All lanes on one Redis. ``epochs``: lane -> the epoch the ledger has for it.

    ``connections``: kept ones, for claims and for reading packets that have ended; ``changing``: kept ones for the
    other scripts. Scripts go by these alone: a connection that knows its server makes the epoch into the lane token.
    Without them everything goes by the client, and ``epochs`` has the lanes' words as they are.
    """

    def __init__(
        self,
        client: Redis,
        epochs: Mapping[int, str],
        connections: Connections | None = None,
        changing: Connections | None = None,
    ) -> None:
        self.client = self._client = client
        self.on_fenced: Callable[[int], None] = _nobody_listens
        """Told of each lane that refused."""
        self.epochs = epochs
        self._send: Send = partial(command, client)
        self._send_kept: Send = self._send if connections is None else connections.call
        self._claiming, self._changing = connections, changing or connections
        self._open, self._claim, self._close = Script("open"), Script("claim"), Script("close")
        self._view, self._freeze = Script("view"), Script("freeze")

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
        all_keys = [keys.lane(lane), *names]
        # EVALSHA, its hash, how many keys, the keys, and then the epoch.
        send = self._send if kept is None else partial(kept.call, epoch_at=3 + len(all_keys))
        with redis_errors():
            reply = await script.call(send, all_keys, [epoch or self._epoch(lane), *arguments])
        if reply[0] == b"FENCED":
            self.on_fenced(lane)
            raise RecoveringError(
                f"Lane {lane} is paused until its Redis data has been verified against, or rebuilt from, the ledger."
            )
        if reply[0] == b"MALFORMED":
            raise ValueError(f"{script.name}.lua refused the form of its arguments")
        return reply

    async def open(self, chunk: Chunk, *, not_after_ms: int, epoch: str | None = None) -> tuple[Opened, int]:
        """Load one chunk; returns the reply and how many shares are loaded (0 where the reply does not say).

        ``epoch``: the lane's before the ledger was read, if it matters that the lane was not rebuilt since.
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
        reply = await self._call(self._open, lane, names, arguments, self._changing, epoch=epoch)
        word = Opened(reply[0].decode())
        return word, reply[1] if word in (Opened.OFFSET, Opened.LOADED) else 0

    def lend(self) -> Lent | None:
        """A kept connection for a claim whose acknowledgement may have to wait on it; None without kept ones."""
        return None if self._claiming is None else self._claiming.lend()

    async def claim(
        self, lane: int, asked: Mapping[str, Sequence[str]], *, backlog_max: int, lent: Lent | None = None
    ) -> ClaimReply:
        """Claim for ``asked`` (packet -> users, at most 1,000 in all); results in the order of iteration.

        ``lent``: the connection by which it goes.
        """
        names = [keys.events(lane), keys.due(lane), keys.frozen(lane)]
        arguments: list[str | int] = [backlog_max]
        for packet_id, users in asked.items():
            names += keys.all_of(packet_id)
            arguments += (packet_id, len(users), *users)
        epoch = self._epoch(lane)
        reply = await self._call(self._claim, lane, names, arguments, lent or self._claiming)
        _, letters, amounts_fen, position, *acks = reply
        results = list(map(ClaimResult, map(_OUTCOMES.__getitem__, letters), amounts_fen))
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
        """End a packet; returns the reply and, with CLOSED, how many shares and fen go back.

        ``not_after_ms``: until when it may be RETRACTED. ``retry_ms``: how long the caller of an ARRIVED has.
        """
        lane = lane_of(packet_id)
        names = [keys.events(lane), keys.due(lane), keys.packet(packet_id), keys.shares(packet_id)]
        arguments: list[str | int] = [packet_id, reason.value, not_after_ms, retry_ms]
        reply = await self._call(self._close, lane, names, arguments, self._changing)
        word = Closed(reply[0].decode())
        return (word, reply[1], reply[2]) if word is Closed.CLOSED else (word, 0, 0)

    async def note_view(
        self, packet_id: str, user_id: str, *, consents: bool, not_after_ms: int, named_max: int
    ) -> tuple[Noted, int, int]:
        """Note that somebody has seen a packet, or consents to its being taken back until ``not_after_ms``.

        Gives the reply and, with NOTED, how many have seen it and how many of them consent.
        """
        what = "consent" if consents else "view"
        arguments: list[str | int] = [user_id, what, not_after_ms, named_max]
        names = [keys.packet(packet_id)]
        reply = await self._call(self._view, lane_of(packet_id), names, arguments, self._changing)
        word = Noted(reply[0].decode())
        return (word, reply[1], reply[2]) if word is Noted.NOTED else (word, 0, 0)

    async def frozen_version(self, lane: int) -> int:
        """The last change of who may claim that a lane has been told of; 0: none."""
        with redis_errors():
            version = await command(self._client, "HGET", keys.lane(lane), "frozen_version")
        return int(version or 0)

    async def freeze(self, lane: int, after: int, version: int, frozen: Sequence[str], lifted: Sequence[str]) -> int:
        """Tell a lane that is at change ``after`` the changes up to ``version``; returns the change it is at then."""
        arguments: list[str | int] = [after, version, len(frozen), *frozen, *lifted]
        reply = await self._call(self._freeze, lane, [keys.frozen(lane)], arguments, self._changing)
        return version if reply[0] == b"FOLLOWED" else int(reply[1])

    async def frozen(self, lane: int) -> set[str]:
        """The users who may not claim in a lane, as it has been told."""
        with redis_errors():
            return {user_id.decode() for user_id in await command(self._client, "SMEMBERS", keys.frozen(lane))}

    async def recipients(self, packet_id: str) -> list[str]:
        """Whom a packet is for; none when it is for anyone, or gone."""
        with redis_errors():
            found = await command(self._client, "SMEMBERS", keys.recipients(packet_id))
        return sorted(user_id.decode() for user_id in found)

    async def now_ms(self) -> int:
        """Redis's clock, the one by which packets expire."""
        with redis_errors():
            seconds, microseconds = await command(self._client, "TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def due(self, lane: int, now_ms: int, limit: int) -> list[str]:
        """Open packets of a lane whose time is over, the oldest first."""
        with redis_errors():
            numbers = await command(
                self._client, "ZRANGE", keys.due(lane), "-inf", now_ms, "BYSCORE", "LIMIT", 0, limit
            )
        return [number.decode() for number in numbers]

    async def lane_status(self, lane: int) -> LaneStatus | None:
        """The lane's own numbers, or None when Redis has lost them."""
        with redis_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                # The server's name first: what is read after it, or written for it, is of that server or a later one.
                pipeline.info("server")
                pipeline.hmget(keys.lane(lane), ["epoch", "position", "applied"])
                server, (lane_token, position, applied) = await pipeline.execute()
        if lane_token is None or position is None:
            return None
        epoch, has_run_id, run_id = lane_token.decode().partition("@")
        return LaneStatus(
            epoch=epoch,
            position=int(position),
            applied=int(applied or 0),
            run_id=run_id if has_run_id else None,
            lane_token=lane_token.decode(),
            server=server["run_id"],
        )

    async def begin_lane(self, lane: int, epoch: str) -> None:
        """Write a lane that has never been used; what is there already stays as it is."""
        send = self._send if self._changing is None else partial(self._changing.call, epoch_at=3)
        with redis_errors():
            for name in ("position", "applied"):
                await self._send("HSETNX", keys.lane(lane), name, 0)
            await send("HSETNX", keys.lane(lane), "epoch", epoch)  # last: from now on it serves

    async def fence(self, lane: int) -> None:
        """Take the lane's epoch away, so that every script refuses it until the lane is rebuilt."""
        with redis_errors():
            await command(self._client, "HSET", keys.lane(lane), "epoch", "")

    async def states(self, packet_ids: Sequence[str]) -> list[str | None]:
        """Each packet's state in Redis ("loading" while its shares come in), None where Redis has no such packet."""
        with redis_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for packet_id in packet_ids:
                    pipeline.hget(keys.packet(packet_id), "state")
                replies = await pipeline.execute()
        return [None if state is None else state.decode() for state in replies]

    async def counts(self, packet_id: str) -> LiveCounts | None:
        """What Redis holds of a packet, or None (unknown, loading, or settled and dropped)."""
        with redis_errors():
            return _live_counts(await self._send_kept("HMGET", keys.packet(packet_id), *_COUNTS))

    async def claims(self, packet_id: str) -> list[ClaimRow]:
        """Every claim Redis holds of a packet, in slot order. For packets small enough to be read whole."""
        with redis_errors():
            held = await self._send_kept("HGETALL", keys.claims(packet_id))
        if not isinstance(held, dict):  # a kept connection returns the reply as it came: names and values in turn
            held = dict(zip(held[::2], held[1::2], strict=True))
        return sorted((claim_row(user, value) for user, value in held.items()), key=lambda row: row.slot)

    async def claim_of(self, packet_id: str, user_id: str) -> ClaimRow | None:
        """The share a user has of a packet, as far as Redis holds it."""
        with redis_errors():
            value = await command(self._client, "HGET", keys.claims(packet_id), user_id)
        return None if value is None else claim_row(user_id.encode(), value)

    async def held(self, packet_ids: Sequence[str]) -> list[Held | None]:
        """What Redis holds of packets of one lane, all at one moment; None as for ``counts``.

        For packets small enough to be read whole, and for no more than a few thousand shares in all.
        """
        with redis_errors():
            async with self._client.pipeline(transaction=True) as pipeline:
                for packet_id in packet_ids:
                    pipeline.hmget(keys.packet(packet_id), _COUNTS)
                    pipeline.hgetall(keys.claims(packet_id))
                    pipeline.lrange(keys.shares(packet_id), 0, -1)
                replies = iter(await pipeline.execute())
        read: list[Held | None] = []
        for values, given, left in zip(replies, replies, replies, strict=True):
            counts = _live_counts(values)
            rows = [claim_row(user, value) for user, value in given.items()]
            read.append(None if counts is None else Held(counts, rows, [_share(share) for share in left]))
        return read

    async def scan_claims(self, packet_id: str) -> AsyncIterator[ClaimRow]:
        """Every claim of a packet of any size, in no order, without holding Redis up."""
        with redis_errors():
            cursor = b"0"
            while True:
                cursor, held = await command(self._client, "HSCAN", keys.claims(packet_id), cursor, "COUNT", 1_000)
                for user, value in held.items():
                    yield claim_row(user, value)
                if not int(cursor):
                    return

    async def scan_shares(self, packet_id: str) -> AsyncIterator[tuple[int, int]]:
        """The shares nobody has yet, (slot, amount_fen), in the order they are given, without holding Redis up."""
        start = 0
        while True:
            with redis_errors():
                page = await command(self._client, "LRANGE", keys.shares(packet_id), start, start + _SHARES_PAGE - 1)
            for share in page:
                yield _share(share)
            start += len(page)
            if len(page) < _SHARES_PAGE:
                return


def _live_counts(values: Sequence[bytes | None]) -> LiveCounts | None:
    """Read the fields ``_COUNTS`` of a packet."""
    state, count, total, remaining, remaining_fen, invited, ack, user, value = values
    if state is None or state == b"loading":
        return None
    return LiveCounts(
        # A transfer that has not arrived is open to everybody but its recipient's claim.
        state=PacketState.OPEN if state == b"held" else PacketState(state.decode()),
        count=int(count or 0),
        total_fen=int(total or 0),
        remaining_count=int(remaining or 0),
        remaining_fen=int(remaining_fen or 0),
        invited=invited is not None,
        ack=None if ack is None else Ack(ack.decode()),
        luckiest=None if user is None or value is None else claim_row(user, value),
    )


def _share(text: bytes) -> tuple[int, int]:
    """Read one entry of a list of shares, "slot:amount_fen"."""
    slot, _, amount_fen = text.partition(b":")
    return int(slot), int(amount_fen)


def _nobody_listens(_lane: int) -> None:
    pass


def claim_row(user: bytes, value: bytes) -> ClaimRow:
    """Read one entry of a claims hash, "slot:amount_fen:claimed_at_ms"."""
    slot, amount_fen, at_ms = value.split(b":")
    return ClaimRow(user_id=user.decode(), amount_fen=int(amount_fen), slot=int(slot), claimed_at_ms=int(at_ms))
