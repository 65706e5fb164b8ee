"""A lane on a real server for the tests of the scripts: opens, claims, closes, and looks at what is there."""

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from redis.asyncio import Redis

from engine.claiming.acks import Acks
from engine.claiming.checkpoints import Checkpoints
from engine.events import Claims, Event
from engine.ids import new_packet_number
from engine.lanes import keys
from engine.lanes.clients import command, redis_client
from engine.lanes.entries import Entry
from engine.lanes.replies import Closed, CloseReason, Opened
from engine.lanes.scripts import Script
from engine.lanes.store import Chunk, Store
from engine.lanes.stream import EventStream
from engine.lanes.topology import Topology
from engine.packets.split import luckiest_slot
from engine.records import Ack, ClaimRow, PacketState
from engine.settings import Settings

LANE = 7
EPOCH = "epoch-of-the-test"
BACKLOG_MAX = 1_000_000
FAR_FUTURE_MS = 4_000_000_000_000
LONG_AGO_MS = 1_000_000_000_000


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One lane, begun, without a packet in it."""

    client: Redis
    store: Store
    stream: EventStream

    async def open(
        self,
        amounts: Sequence[int],
        *,
        recipients: Sequence[str] = (),
        expires_at_ms: int = FAR_FUTURE_MS,
        packet_id: str | None = None,
        ack: Ack | None = None,
        arrives_at_ms: int | None = None,
    ) -> str:
        """Open a packet of these shares in one call; returns its number."""
        packet_id = packet_id or new_packet_number(LANE)
        chunk = chunk_of(
            amounts,
            packet_id=packet_id,
            recipients=recipients,
            expires_at_ms=expires_at_ms,
            ack=ack,
            arrives_at_ms=arrives_at_ms,
        )
        reply, _ = await self.store.open(chunk, not_after_ms=FAR_FUTURE_MS)
        assert reply is Opened.OPENED
        return packet_id

    async def claim(self, asked: Mapping[str, Sequence[str]], *, backlog_max: int = BACKLOG_MAX) -> str:
        """Claim; returns the letters alone."""
        reply = await self.store.claim(LANE, asked, backlog_max=backlog_max)
        return "".join(result.outcome.value for result in reply.results)

    async def close(self, packet_id: str, reason: CloseReason = CloseReason.EXPIRED) -> tuple[Closed, int, int]:
        """End a packet."""
        return await self.store.close(packet_id, reason)

    async def run_out(self, packet_id: str) -> None:
        """Let a packet's time be over at once, as if we had waited."""
        await command(self.client, "HSET", keys.packet(packet_id), "expires_at_ms", LONG_AGO_MS)
        await command(self.client, "ZADD", keys.due(LANE), "XX", LONG_AGO_MS, packet_id)

    async def arrive(self, packet_id: str) -> None:
        """Let a transfer's time of arrival come at once."""
        await command(self.client, "HSET", keys.packet(packet_id), "arrives_at_ms", LONG_AGO_MS)
        await command(self.client, "ZADD", keys.due(LANE), "XX", LONG_AGO_MS, packet_id)

    async def set_applied(self, position: int) -> None:
        """As if the ledger had applied so many changes; the stream keeps them."""
        await command(self.client, "HSET", keys.lane(LANE), "applied", position)

    async def entries(self) -> list[Entry]:
        """Everything the stream holds."""
        return await self.stream.page(LANE, after=0)

    async def events(self) -> list[Event]:
        """The events of everything the stream holds."""
        return [entry.event for entry in await self.entries()]

    async def position(self) -> int:
        """How many changes the lane has emitted."""
        return int(await command(self.client, "HGET", keys.lane(LANE), "position"))

    async def shares_left(self, packet_id: str) -> list[str]:
        """The shares nobody has."""
        return [share.decode() for share in await command(self.client, "LRANGE", keys.shares(packet_id), 0, -1)]

    async def due(self) -> list[str]:
        """The packets the sweeper will be told of one day."""
        return [packet_id.decode() for packet_id in await command(self.client, "ZRANGE", keys.due(LANE), 0, -1)]

    async def due_ms(self, packet_id: str) -> int:
        """When the sweeper must look at a packet."""
        return int(float(await command(self.client, "ZSCORE", keys.due(LANE), packet_id)))

    async def field(self, packet_id: str, name: str) -> str | None:
        """One field of the packet's hash."""
        value = await command(self.client, "HGET", keys.packet(packet_id), name)
        return None if value is None else value.decode()

    async def everything(self) -> dict[bytes, bytes]:
        """Every key of the server with all that it holds: equal before and after means that nothing was done."""
        names = await command(self.client, "KEYS", "*")
        return {name: await command(self.client, "DUMP", name) for name in names}

    async def call(self, script: str, names: Sequence[str], arguments: Sequence[str | int]) -> list[object]:
        """Call a script as it is, with the lane's own keys before ``names``, unless they begin with the lane itself."""
        own = [keys.lane(LANE), keys.events(LANE), keys.due(LANE)]
        own += [keys.frozen(LANE), keys.limited(LANE)] if script == "claim" else []
        all_keys = [*names] if names and names[0] == keys.lane(LANE) else [*own, *names]
        return await Script(script).call(partial(command, self.client), all_keys, arguments)

    async def assert_consistent(self, packet_id: str, amounts: Sequence[int]) -> None:
        """Shares left, running remainder, claims and events of a live packet must tell one story."""
        left = await self.shares_left(packet_id)
        counts, rows = await self.store.counts(packet_id), await self.store.claims(packet_id)
        assert counts is not None
        if counts.state in (PacketState.OPEN, PacketState.EXHAUSTED):
            assert (counts.remaining_count, counts.remaining_fen) == (len(left), sum(map(amount_of, left)))
        assert [f"{row.slot}:{row.amount_fen}" for row in rows] == shares_of(amounts)[: len(rows)]
        assert counts.remaining_count == len(amounts) - len(rows)
        assert counts.remaining_fen == sum(amounts[len(rows) :])
        entries = await self.entries()
        changes = [change for entry in entries for change in entry.changes]
        told = [change for change in changes if isinstance(change, Claims) and change.packet == int(packet_id)]
        assert [row for change in told for row in rows_of(change)] == rows

    async def assert_contiguous(self) -> None:
        """Each entry's ID follows the one before it by exactly its changes; the last is the lane's position."""
        entries = await self.entries()
        sizes = [entry.event.changes for entry in entries]
        assert [entry.position for entry in entries] == list(itertools.accumulate(sizes))
        assert await self.position() == sum(sizes)


@asynccontextmanager
async def lane_on(url: str) -> AsyncIterator[Lane]:
    """A fresh lane on an emptied server."""
    async with redis_client(url, connections_max=50, timeout_s=5.0) as client:
        await command(client, "FLUSHALL")
        store = Store(Topology.of_one(client), {LANE: EPOCH})
        await store.begin_lane(LANE, EPOCH)
        yield Lane(client=client, store=store, stream=EventStream(Topology.of_one(client)))


def chunk_of(
    amounts: Sequence[int],
    *,
    packet_id: str,
    first: int = 0,
    size: int | None = None,
    recipients: Sequence[str] = (),
    expires_at_ms: int = FAR_FUTURE_MS,
    ack: Ack | None = None,
    arrives_at_ms: int | None = None,
) -> Chunk:
    """``size`` of a packet's shares, from the one at ``first`` on, as a loader would send them."""
    luckiest = luckiest_slot(amounts)
    last = len(amounts) if size is None else first + size
    return Chunk(
        packet_id=packet_id,
        offset=first,
        count=len(amounts),
        total_fen=sum(amounts),
        expires_at_ms=expires_at_ms,
        luckiest_share=f"{luckiest}:{amounts[luckiest]}",
        ack=ack,
        arrives_at_ms=arrives_at_ms,
        recipients=recipients,
        shares=[f"{slot}:{amount}" for slot, amount in enumerate(amounts[first:last], start=first)],
    )


def shares_of(amounts: Sequence[int]) -> list[str]:
    """The shares as Redis keeps them."""
    return [f"{slot}:{amount}" for slot, amount in enumerate(amounts)]


def amount_of(share: str) -> int:
    """A share's amount in fen."""
    return int(share.split(":")[1])


def claim_keys(*packet_ids: str) -> list[str]:
    """The keys of packets as claim.lua takes them."""
    return [name for packet_id in packet_ids for name in keys.all_of(packet_id)]


def rows_of(claims: Claims) -> list[ClaimRow]:
    """Claims as the rows they become."""
    return [
        ClaimRow(user_id=user_id, amount_fen=amount_fen, slot=slot, claimed_at_ms=claims.at_ms)
        for user_id, slot, amount_fen in zip(claims.user_ids, claims.slots, claims.amounts_fen, strict=True)
    ]


def users(count: int, prefix: str = "user") -> list[str]:
    """So many users."""
    return [f"{prefix}{number}" for number in range(count)]


def acks_of(store: Store, settings: Settings) -> Acks:
    """What a batcher's answers wait for by the settings, on a lane that has no ledger."""
    return Acks(settings, store.topology, Checkpoints("postgresql://nobody"))
