"""Reads what Redis holds of lanes and packets, and changes nothing.

Every function raises UnavailableError if Redis does not answer.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError, ResponseError

from engine.errors import RecoveringError
from engine.ids import lane_of
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.connections import ReplacedServerError
from engine.lanes.failures import redis_errors
from engine.lanes.topology import Node, Topology
from engine.records import Ack, ClaimRow, PacketState

READ_WHOLE_COUNT_MAX = 1_000
"""If a packet has more shares, its claims are never read in one command: it would block Redis."""
_SHARES_PAGE = 1_000
_COUNTS = (
    *("state", "count", "total_fen", "remaining_count", "remaining_fen", "invited", "ack"),
    *("luckiest_user", "luckiest_value"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveCounts:
    """Redis's numbers of a packet."""

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
    """A lane's state in Redis. ``position``: changes ever emitted. ``applied``: changes the ledger has committed.

    ``lane_token`` is the lane's token: the epoch, and the run id of the server whose data was verified (None if the
    token has none). ``server`` is the run id of the server that sent this answer.
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
    """What Redis holds of a packet. ``left``: the unclaimed shares, (slot, amount_fen), in the order of giving."""

    counts: LiveCounts
    given: list[ClaimRow]
    left: list[tuple[int, int]]


def refuse_replica(replication: Mapping[str, Any]) -> None:
    """Raise ReadOnlyError if a server's INFO says that it is a replica."""
    if replication["role"] != "master":
        raise ReadOnlyError("READONLY The server is a replica.")


def is_wrong_type(reply: object) -> bool:
    """Whether Redis refused because the key holds another type. Hongbao did not write it then."""
    return isinstance(reply, ResponseError) and "WRONGTYPE" in str(reply)


async def clock_ms(node: Node) -> int:
    """A server's clock. Raises UnavailableError."""
    with redis_errors():
        seconds, microseconds = await command(node.client, "TIME")
    return int(seconds) * 1000 + int(microseconds) // 1000


class LaneReader:
    """All lanes, each on its own server."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.servers: Mapping[int, str] = {}
        """lane -> the run id of the server whose data the ledger vouches for, if it has one."""

    async def _send_kept(self, packet_id: str, *words: str) -> Any:  # noqa: ANN401 -- any reply
        """Ask the server that the ledger vouches for: what it says of packets that have ended is remembered."""
        lane = lane_of(packet_id)
        node = self.topology.node_of(lane)
        if node.claiming is None:
            return await command(node.client, *words)
        try:
            return await node.claiming.call(*words, server=self.servers.get(lane, ""))
        except ReplacedServerError:
            raise self._paused(lane) from None

    def _paused(self, lane: int) -> RecoveringError:
        return RecoveringError(
            f"Lane {lane} is paused until its Redis data has been verified against, or rebuilt from, the ledger."
        )

    def client_of(self, lane: int) -> Redis:
        """The client of the lane's server. Raises UnavailableError if none holds it."""
        return self.topology.node_of(lane).client

    def node_of_packet(self, packet_id: str) -> Node:
        """The server that holds a packet's lane. Raises UnavailableError if none does."""
        return self.topology.node_of(lane_of(packet_id))

    def _client_of_packet(self, packet_id: str) -> Redis:
        return self.node_of_packet(packet_id).client

    async def frozen_version(self, lane: int) -> int:
        """The last change of freezes that a lane has received, or 0."""
        with redis_errors():
            version = await command(self.client_of(lane), "HGET", keys.lane(lane), "frozen_version")
        return int(version or 0)

    async def frozen(self, lane: int) -> set[str]:
        """The frozen users that the lane knows."""
        with redis_errors():
            return {user_id.decode() for user_id in await command(self.client_of(lane), "SMEMBERS", keys.frozen(lane))}

    async def limited_version(self, lane: int) -> int:
        """The last change of the limited users that a lane has received, or 0."""
        with redis_errors():
            version = await command(self.client_of(lane), "HGET", keys.lane(lane), "limited_version")
        return int(version or 0)

    async def recipients(self, packet_id: str) -> list[str]:
        """The users who may claim a packet. Empty if anyone may, or if the packet is gone."""
        with redis_errors():
            found = await command(self._client_of_packet(packet_id), "SMEMBERS", keys.recipients(packet_id))
        return sorted(user_id.decode() for user_id in found)

    async def now_ms(self, lane: int) -> int:
        """The clock of a lane's server, by which its packets expire."""
        return await clock_ms(self.topology.node_of(lane))

    async def earliest_ms(self) -> int:
        """The clock of the server whose clock is behind all others'. For what concerns every lane."""
        return min(await asyncio.gather(*map(clock_ms, self.topology.nodes)))

    async def due(self, lane: int, now_ms: int, limit: int) -> list[str]:
        """The lane's open packets whose time is over, the oldest first."""
        with redis_errors():
            numbers = await command(
                self.client_of(lane), "ZRANGE", keys.due(lane), "-inf", now_ms, "BYSCORE", "LIMIT", 0, limit
            )
        return [number.decode() for number in numbers]

    async def due_count(self, lane: int, now_ms: int) -> tuple[int, int | None]:
        """How many of the lane's open packets are over, and since when the oldest of them is."""
        with redis_errors():
            async with self.client_of(lane).pipeline(transaction=False) as pipeline:
                pipeline.zcount(keys.due(lane), "-inf", now_ms)
                pipeline.execute_command("ZRANGE", keys.due(lane), 0, 0, "WITHSCORES")
                count, first = await pipeline.execute()
        return int(count), int(float(first[1] if len(first) == 2 else first[0][1])) if count and first else None

    async def lane_status(self, lane: int) -> LaneStatus | None:
        """The lane's own numbers, or None if Redis has lost them or has another type in their place.

        A replica's data proves nothing: it may be behind, or empty while it is filled. So it is refused.
        """
        with redis_errors():
            async with self.client_of(lane).pipeline(transaction=False) as pipeline:
                # The run id first: everything read after it comes from that server or a later one.
                pipeline.info("server")
                pipeline.info("replication")
                pipeline.hmget(keys.lane(lane), ["epoch", "position", "applied"])
                server, replication, fields = await pipeline.execute(raise_on_error=False)
            for reply in (server, replication, fields):
                if isinstance(reply, Exception) and not is_wrong_type(reply):
                    raise reply
            refuse_replica(replication)
        lane_token, position, applied = (None, None, None) if is_wrong_type(fields) else fields
        if lane_token is None or position is None or not (position + (applied or b"")).isdigit():
            return None
        lane_token = lane_token.decode(errors="replace")
        epoch, has_run_id, run_id = lane_token.partition("@")
        return LaneStatus(
            epoch=epoch,
            position=int(position),
            applied=int(applied or 0),
            run_id=run_id if has_run_id else None,
            lane_token=lane_token,
            server=server["run_id"],
        )

    async def states(self, packet_ids: Sequence[str]) -> list[str | None]:
        """Each packet's state in Redis ("loading" while its shares arrive), or None if Redis has no such packet.

        All of them must be on one server (``by_server``).
        """
        if not packet_ids:
            return []
        with redis_errors():
            async with self._client_of_packet(packet_ids[0]).pipeline(transaction=False) as pipeline:
                for packet_id in packet_ids:
                    pipeline.hget(keys.packet(packet_id), "state")
                replies = await pipeline.execute()
        return [None if state is None else state.decode() for state in replies]

    def by_server(self, packet_ids: Iterable[str]) -> list[list[str]]:
        """These packets in their order, those of one server together."""
        found: dict[Node, list[str]] = {}
        for packet_id in packet_ids:
            found.setdefault(self.node_of_packet(packet_id), []).append(packet_id)
        return list(found.values())

    async def counts(self, packet_id: str) -> LiveCounts | None:
        """What Redis holds of a packet, or None (unknown, loading, or settled and dropped)."""
        with redis_errors():
            return _live_counts(await self._send_kept(packet_id, "HMGET", keys.packet(packet_id), *_COUNTS))

    async def claims(self, packet_id: str) -> list[ClaimRow]:
        """Every claim that Redis holds of a packet, in slot order. For packets small enough to be read whole."""
        with redis_errors():
            held = await self._send_kept(packet_id, "HGETALL", keys.claims(packet_id))
        if not isinstance(held, dict):  # a kept connection returns the raw reply: names and values in turn
            held = dict(zip(held[::2], held[1::2], strict=True))
        return sorted((claim_row(user, value) for user, value in held.items()), key=lambda row: row.slot)

    async def claim_of(self, packet_id: str, user_id: str) -> ClaimRow | None:
        """A user's share of a packet, if Redis holds it."""
        with redis_errors():
            value = await command(self._client_of_packet(packet_id), "HGET", keys.claims(packet_id), user_id)
        return None if value is None else claim_row(user_id.encode(), value)

    async def amounts_of(self, packet_ids: Sequence[str], user_id: str) -> dict[str, int]:
        """A user's shares of these packets, as far as Redis holds them: packet -> amount.

        All of them must be on one server (``by_server``).
        """
        if not packet_ids:
            return {}
        with redis_errors():
            async with self._client_of_packet(packet_ids[0]).pipeline(transaction=False) as pipeline:
                for packet_id in packet_ids:
                    pipeline.hget(keys.claims(packet_id), user_id)
                values = await pipeline.execute()
        return {
            packet_id: claim_row(user_id.encode(), value).amount_fen
            for packet_id, value in zip(packet_ids, values, strict=True)
            if value is not None
        }

    async def held(self, packet_ids: Sequence[str]) -> list[Held | None]:
        """What Redis holds of one lane's packets, all at one moment. None as for ``counts``.

        For packets small enough to be read whole, with at most a few thousand shares in all.
        """
        if not packet_ids:
            return []
        with redis_errors():
            async with self._client_of_packet(packet_ids[0]).pipeline(transaction=True) as pipeline:
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
        """Every claim of a packet of any size, in no order, without blocking Redis."""
        client = self._client_of_packet(packet_id)
        with redis_errors():
            cursor = b"0"
            while True:
                cursor, held = await command(client, "HSCAN", keys.claims(packet_id), cursor, "COUNT", 1_000)
                for user, value in held.items():
                    yield claim_row(user, value)
                if not int(cursor):
                    return

    async def scan_shares(self, packet_id: str) -> AsyncIterator[tuple[int, int]]:
        """The unclaimed shares, (slot, amount_fen), in the order of giving, without blocking Redis."""
        client, start = self._client_of_packet(packet_id), 0
        while True:
            with redis_errors():
                page = await command(client, "LRANGE", keys.shares(packet_id), start, start + _SHARES_PAGE - 1)
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
        # A transfer that has not arrived counts as open everywhere except for its recipient's claim.
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


def claim_row(user: bytes, value: bytes) -> ClaimRow:
    """Read one entry of a claims hash, "slot:amount_fen:claimed_at_ms"."""
    slot, amount_fen, at_ms = value.split(b":")
    return ClaimRow(user_id=user.decode(), amount_fen=int(amount_fen), slot=int(slot), claimed_at_ms=int(at_ms))
