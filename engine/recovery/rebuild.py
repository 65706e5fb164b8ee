"""A lane's open packets as Redis must hold them, from what the ledger knows: terms and seed, and who has which share.

Exhausted and closed packets are not needed (the ledger answers for them), those that are paid for and not open are
loaded by the publisher. Memory is bounded by one packet's split, however many packets and claims there are.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import chain

import asyncpg
import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis

from engine.lanes import keys
from engine.lanes.reader import LaneStatus
from engine.packets.opening import amounts_of, funded_from
from engine.packets.split import luckiest_slot
from engine.queries import load
from engine.recovery.fencing import Command, write_if

SQL, LIMITS_REACHED = load("recovery"), load("limits_reached")
_PACKETS_PER_PAGE = 200
_SHARES_PER_GROUP = 20_000
_CLAIMS_PER_FETCH = 5_000
_WORDS_PER_WRITE = 5_000
_WORDS_PER_HSET = 1_000
_BARRED_FIELDS = ("frozen", "frozen_version", "limited_until_ms", "limited_version")


@dataclass(slots=True)
class Rebuilt:
    """How much was put into Redis."""

    packets: int = 0
    claims: int = 0
    shares_left: int = 0


class LaneWriter:
    """Collects commands on a lane's keys and sends them in bounded transactions, for as long as the lane is ours."""

    def __init__(self, client: Redis, lane: int, lane_token: str, server: str) -> None:
        self._client, self._lane, self._lane_token, self._server = client, lane, lane_token, server
        self._commands: list[Command] = []
        self._words = 0

    async def put(self, *words: str | bytes | int) -> None:
        """Add one command. Raises as ``fencing.write_if``."""
        self._commands.append(words)
        self._words += len(words)
        if self._words >= _WORDS_PER_WRITE:
            await self.flush()

    async def flush(self) -> None:
        """Send what was collected."""
        if self._commands:
            commands, self._commands, self._words = self._commands, [], 0
            await write_if(self._client, self._lane, self._lane_token, self._server, commands)


class _Packet:
    """One packet on its way into Redis."""

    def __init__(self, row: asyncpg.Record, amounts: NDArray[np.int64]) -> None:
        self.funded, self.amounts = funded_from(row), amounts
        self.is_taken = np.zeros(len(amounts), dtype=bool)
        self.luckiest = luckiest_slot(amounts)
        self.luckiest_claim: tuple[str, str] | None = None
        self.is_transfer: bool = row["is_transfer"]

    def take(self, claim: asyncpg.Record) -> tuple[str, str]:
        """Note a share as given. Returns the claim's user and value."""
        value = f"{claim['slot']}:{claim['amount_fen']}:{claim['at_ms']}"
        if 0 <= claim["slot"] < len(self.amounts):
            self.is_taken[claim["slot"]] = True
        if claim["slot"] == self.luckiest:
            self.luckiest_claim = (claim["user_id"], value)
        return claim["user_id"], value

    def fields(self) -> list[str | int]:
        """The packet's hash, in the order in which the scripts would have written it."""
        funded, left = self.funded, self.amounts[~self.is_taken]
        state = "open" if funded.arrives_at_ms is None else "held"
        fields: list[str | int] = ["state", state, "count", funded.count, "total_fen", funded.total_fen]
        fields += ["expires_at_ms", funded.expires_at_ms]
        fields += ["remaining_count", len(left), "remaining_fen", int(left.sum())]
        fields += ["luckiest_share", f"{self.luckiest}:{self.amounts[self.luckiest]}"]
        if funded.ack is not None:
            fields += ["ack", funded.ack.value]
        if funded.recipients:
            fields += ["invited", len(funded.recipients)]
        if not self.is_transfer:
            # Its viewers were in Redis alone, so anyone may have seen it.
            fields += ["views", 1]
        if funded.arrives_at_ms is not None:
            fields += ["arrives_at_ms", funded.arrives_at_ms]
        if self.luckiest_claim is not None:
            fields += ["luckiest_user", self.luckiest_claim[0], "luckiest_value", self.luckiest_claim[1]]
        return fields

    def shares_left(self) -> Iterator[list[str]]:
        """The shares nobody has, in the order they are given, some at a time."""
        slots = np.flatnonzero(~self.is_taken)
        for start in range(0, len(slots), _WORDS_PER_WRITE):
            part = slots[start : start + _WORDS_PER_WRITE]
            yield [f"{slot}:{amount}" for slot, amount in zip(part.tolist(), self.amounts[part].tolist(), strict=True)]


async def rebuild_packets(connection: asyncpg.Connection, writer: LaneWriter, lane: int) -> Rebuilt:
    """Put every packet that is open by the ledger into an empty lane. Raises as ``fencing.write_if``."""
    rebuilt = Rebuilt()
    async for rows in _groups(connection, lane):
        packets = {row["packet_id"]: _Packet(row, await _amounts(row)) for row in rows}
        rebuilt.claims += await _put_claims(connection, writer, packets)
        for packet in packets.values():
            rebuilt.shares_left += await _put_packet(writer, lane, packet)
        rebuilt.packets += len(packets)
    await writer.flush()
    return rebuilt


async def _groups(connection: asyncpg.Connection, lane: int) -> AsyncIterator[list[asyncpg.Record]]:
    """The lane's open packets, few enough at a time that all their shares may be held at once."""
    after = 0
    while rows := await connection.fetch(SQL["open_packets"], lane, after, _PACKETS_PER_PAGE):
        after = rows[-1]["packet_id"]
        group: list[asyncpg.Record] = []
        for row in rows:
            if group and sum(packet["count"] for packet in group) + row["count"] > _SHARES_PER_GROUP:
                yield group
                group = []
            group.append(row)
        yield group


async def _amounts(row: asyncpg.Record) -> NDArray[np.int64]:
    packet = funded_from(row)
    return await amounts_of(packet)


async def _put_claims(connection: asyncpg.Connection, writer: LaneWriter, packets: dict[int, _Packet]) -> int:
    """Put the claims back. Returns how many there are."""
    put = 0
    pairs: list[str] = []
    packet_id = 0
    async with connection.transaction(readonly=True):
        async for claim in connection.cursor(SQL["claims"], list(packets), prefetch=_CLAIMS_PER_FETCH):
            put += 1
            if pairs and (claim["packet_id"] != packet_id or len(pairs) >= _WORDS_PER_HSET):
                await writer.put("HSET", keys.claims(str(packet_id)), *pairs)
                pairs.clear()
            packet_id = claim["packet_id"]
            user_and_value = packets[packet_id].take(claim)
            if claim["set_aside"]:  # never in the place of a share that the ledger has
                await writer.put("HSETNX", keys.claims(str(packet_id)), *user_and_value)
            else:
                pairs += user_and_value
    if pairs:
        await writer.put("HSET", keys.claims(str(packet_id)), *pairs)
    return put


async def _put_packet(writer: LaneWriter, lane: int, packet: _Packet) -> int:
    """Write the shares that are left and, last, the packet itself. Returns how many are left."""
    packet_id, recipients, left = packet.funded.packet_id, packet.funded.recipients, 0
    for shares in packet.shares_left():
        await writer.put("RPUSH", keys.shares(packet_id), *shares)
        left += len(shares)
    for start in range(0, len(recipients), _WORDS_PER_WRITE):
        await writer.put("SADD", keys.recipients(packet_id), *recipients[start : start + _WORDS_PER_WRITE])
    await writer.put("HSET", keys.packet(packet_id), *packet.fields())
    funded = packet.funded
    due_at_ms = funded.expires_at_ms if funded.arrives_at_ms is None else funded.arrives_at_ms
    await writer.put("ZADD", keys.due(lane), due_at_ms, packet_id)
    return left


async def refreeze(connection: asyncpg.Connection, client: Redis, lane: int, status: LaneStatus) -> None:
    """Replace the users who may not claim in a lane that does not serve. Raises as ``rebuild_barred``."""
    writer = LaneWriter(client, lane, status.lane_token, status.server)
    await writer.put("UNLINK", keys.frozen(lane), keys.limited(lane))
    await writer.put("HDEL", keys.lane(lane), *_BARRED_FIELDS)
    await rebuild_barred(connection, writer, lane)


async def rebuild_barred(connection: asyncpg.Connection, writer: LaneWriter, lane: int) -> None:
    """Write the users who may not claim into an empty lane. Raises as ``fencing.write_if``."""
    version = await connection.fetchval(SQL["frozen_version"])  # first: changes after it are followed later, and again
    users = [row["user_id"] for row in await connection.fetch(SQL["frozen"])]
    for start in range(0, len(users), _WORDS_PER_WRITE):
        await writer.put("SADD", keys.frozen(lane), *users[start : start + _WORDS_PER_WRITE])
    if users:
        await writer.put("HSET", keys.lane(lane), "frozen", 1)
    await writer.put("HSET", keys.lane(lane), "frozen_version", version)
    await _put_limited(connection, writer, lane)
    await writer.flush()


async def _put_limited(connection: asyncpg.Connection, writer: LaneWriter, lane: int) -> None:
    """Write the users who have received as much as they may."""
    version, last_ms = 0, 0
    while rows := await connection.fetch(LIMITS_REACHED["changes"], version, _WORDS_PER_HSET // 2):
        version, last_ms = rows[-1]["change_id"], max(last_ms, *(row["until_ms"] for row in rows))
        pairs = chain.from_iterable((row["user_id"], row["until_ms"]) for row in rows)
        await writer.put("HSET", keys.limited(lane), *pairs)
    await writer.put("HSET", keys.lane(lane), "limited_version", version, "limited_until_ms", last_ms)
