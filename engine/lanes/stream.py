"""The persister's view of a lane's event stream: read what is new, let go of what the ledger has."""

from collections.abc import Sequence
from typing import NamedTuple

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from engine.events import ClosedEvent, Event, OpenedEvent, decode
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.reader import redis_errors

_PAGE = 1_000


class Entry(NamedTuple):
    """One event; ``position`` counts the lane's changes up to and including it."""

    position: int
    event: Event


class EventStream:
    """The streams of all lanes. Wants a client of its own: a blocking read occupies its connection."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._untold: dict[int, int] = {}

    async def read(self, lane: int, after: int, *, entries_max: int, block_ms: int) -> list[Entry]:
        """Entries after a position, waiting up to ``block_ms`` for the first. Raises UnreadableEventError."""
        if lane in self._untold:
            await self.discard(lane, self._untold[lane], [], retention_ms=0)
        words = ("COUNT", entries_max, "BLOCK", block_ms, "STREAMS", keys.events(lane), f"{after}-0")
        with redis_errors():
            reply = await command(self._client, "XREAD", *words)
        return _entries(reply[0][1]) if reply else []

    async def page(self, lane: int, *, after: int, up_to: int | None = None, entries_max: int = _PAGE) -> list[Entry]:
        """At most a page of the entries in (after, up_to] that the stream still holds, without waiting."""
        end = "+" if up_to is None else f"{up_to}-0"
        with redis_errors():
            reply = await command(self._client, "XRANGE", keys.events(lane), f"({after}-0", end, "COUNT", entries_max)
        return _entries(reply)

    async def joins_up_to(self, lane: int, position: int) -> int:
        """The position up to which the stream holds everything after ``position``. Raises UnreadableEventError."""
        while joined_on := joined(position, await self.page(lane, after=position)):
            position = joined_on[-1].position
        return position

    async def discard(self, lane: int, position: int, ended: Sequence[int], *, retention_ms: int) -> None:
        """Let go of what is applied: entries up to ``position``, and after a while the packets that have ended.

        Until the ledger has a packet's end its keys stay, so that nobody takes it for one that was never opened.
        """
        with redis_errors():
            # Not one transaction: a Redis that is out of memory refuses what may grow, and so all of a transaction with
            # an HSET in it, but lets go of things. While ``applied`` is behind, claims stop sooner.
            async with self._client.pipeline(transaction=False) as pipeline:
                for packet in ended:
                    for name in (keys.packet, keys.claims, keys.recipients):
                        pipeline.pexpire(name(str(packet)), retention_ms)
                pipeline.xtrim(keys.events(lane), minid=f"{position + 1}-0", approximate=False)
                pipeline.hset(keys.lane(lane), "applied", str(position))
                replies = await pipeline.execute(raise_on_error=False)
            self._untold.pop(lane, None)
            if isinstance(replies[-1], OutOfMemoryError):
                self._untold[lane] = position  # and is told with the next reading
                replies.pop()
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply

    async def forget(self, packets: Sequence[int], *, retention_ms: int) -> None:
        """Let go, after a while, of packets whose end the ledger has got otherwise than from the stream."""
        with redis_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for packet in packets:
                    for name in (keys.packet, keys.claims, keys.recipients):
                        pipeline.pexpire(name(str(packet)), retention_ms)
                await pipeline.execute()

    async def discard_applied(self, lane: int, checkpoint: int, *, retention_ms: int) -> None:
        """Do what a persister that died between its commit and ``discard`` left undone."""
        after = 0
        while entries := await self.page(lane, after=after, up_to=checkpoint):
            after = entries[-1].position
            ended = [packet for entry in entries for packet in ended_in(entry.event)]
            await self.discard(lane, after, ended, retention_ms=retention_ms)
        await self.discard(lane, checkpoint, [], retention_ms=retention_ms)


def joined(position: int, entries: Sequence[Entry]) -> Sequence[Entry]:
    """The entries up to the first that does not join on to the one before it; the first to ``position``."""
    for place, entry in enumerate(entries):
        if entry.position - entry.event.changes != position:
            return entries[:place]
        position = entry.position
    return entries


def ended_in(event: Event) -> list[int]:
    """The packets an event ends."""
    if isinstance(event, ClosedEvent):
        return [int(event.packet_id)]
    if isinstance(event, OpenedEvent):
        return []
    return [int(packet.packet_id) for packet in event.packets if packet.exhausted]


def _entries(reply: list[tuple[bytes, dict[bytes, bytes]]]) -> list[Entry]:
    return [Entry(int(entry_id.partition(b"-")[0]), decode(fields.get(b"event", b""))) for entry_id, fields in reply]
