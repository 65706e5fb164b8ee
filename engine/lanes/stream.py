"""The persister's view of a lane's event stream: read new entries, remove those that the ledger has.

Reading ends before a bad entry. If the bad entry comes first, it raises BadEntryError.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from engine.events import ClosedEvent, Event, OpenedEvent
from engine.ids import lane_of
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.entries import BadEntryError, Entry, Look, Raw, entry_in, id_of, look_in
from engine.lanes.failures import failure_of, redis_errors
from engine.lanes.reader import is_wrong_type
from engine.lanes.replies import Forgotten
from engine.lanes.scripts import Script
from engine.lanes.topology import Topology

_PAGE = 1_000
_READ_AT_ONCE = 4
"""Entries. Between them the event loop goes on: Postgres, which works on the entries before, must not wait for all."""
FORGOTTEN_PER_CALL_MAX = 250
"""Packets: the forget script's bound."""
_FORGOTTEN_KEYS_MAX = FORGOTTEN_PER_CALL_MAX * 3
Reply = list[tuple[bytes, dict[bytes, bytes]]]


class EventStream:
    """The streams of all lanes, each by its node's client for streams."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._untold: dict[int, int] = {}
        self._forgetting = Script("forget")

    async def read(self, lane: int, after: int, *, entries_max: int, block_ms: int) -> list[Entry]:
        """Entries after a position, waiting up to ``block_ms`` for the first. Raises BadEntryError."""
        if lane in self._untold:
            await self.discard(lane, self._untold[lane], [], retention_ms=0)
        words = ("COUNT", entries_max, "BLOCK", block_ms, "STREAMS", keys.events(lane), f"{after}-0")
        with redis_errors():
            reply = await command(self._client_of(lane), "XREAD", *words)
        return await _entries(lane, reply[0][1]) if reply else []

    def _client_of(self, lane: int) -> Redis:
        return self._topology.node_of(lane).streams

    async def page(self, lane: int, *, after: int, up_to: int | None = None, entries_max: int = _PAGE) -> list[Entry]:
        """At most a page of the entries in (after, up_to] that the stream still holds, without waiting.

        Empty if the key is not a stream. Raises BadEntryError.
        """
        end = "+" if up_to is None else f"{up_to}-0"
        return await _entries(lane, await self._range(lane, f"({after}-0", end, entries_max))

    async def joins_up_to(self, lane: int, position: int) -> int:
        """The position up to which the stream holds everything after ``position``. Raises BadEntryError."""
        while joined_on := joined(position, await self.page(lane, after=position)):
            position = joined_on[-1].position
        return position

    async def scan(self, lane: int, *, after: int = 0) -> AsyncIterator[Entry]:
        """Every entry after a position except bad ones, read page by page."""
        last = f"{after}-0"
        while page := await self._range(lane, f"({last}", "+", _PAGE):
            last = page[-1][0].decode()
            for entry_id, fields in page:
                with contextlib.suppress(BadEntryError):
                    yield entry_in(lane, Raw(entry_id.decode(), fields))

    async def newest(self, lane: int, entries_max: int) -> list[Raw]:
        """The last entries as Redis stores them, newest first. Empty if the key is not a stream."""
        with redis_errors():
            try:
                reply: Reply = await command(
                    self._client_of(lane), "XREVRANGE", keys.events(lane), "+", "-", "COUNT", entries_max
                )
            except ResponseError as error:
                if not is_wrong_type(error):
                    raise
                return []
        return [Raw(entry_id.decode(), fields) for entry_id, fields in reply]

    async def raw(self, lane: int, after_id: str, entries_max: int = _PAGE) -> tuple[list[Raw], int | None]:
        """A page of raw entries, and the lane's position at that moment (None if it has none)."""
        with redis_errors():
            async with self._client_of(lane).pipeline(transaction=True) as pipeline:
                pipeline.execute_command("XRANGE", keys.events(lane), f"({after_id}", "+", "COUNT", entries_max)
                pipeline.hget(keys.lane(lane), "position")
                page, position = await pipeline.execute(raise_on_error=False)
        entries = [Raw(entry_id.decode(), fields) for entry_id, fields in _unless_wrong_type(page) or []]
        return entries, _number(_unless_wrong_type(position))

    async def look(self, lane: int, after: int) -> Look:
        """Look at both ends of the stream: the entry after a position, and whether scripts can still write."""
        with redis_errors():
            async with self._client_of(lane).pipeline(transaction=True) as pipeline:
                pipeline.hget(keys.lane(lane), "position")
                pipeline.execute_command("XRANGE", keys.events(lane), f"({after}-0", "+", "COUNT", 1)
                pipeline.execute_command("XREVRANGE", keys.events(lane), "+", "-", "COUNT", 1)
                pipeline.execute_command("XINFO", "STREAM", keys.events(lane))
                position, first, top, info = await pipeline.execute(raise_on_error=False)
        if is_wrong_type(info):
            return Look.of_another_type()
        if isinstance(info, ResponseError):  # there is no such key
            info = []
        for reply in (first, top, info):
            if isinstance(reply, Exception):
                raise failure_of(reply)
        told = dict(zip(info[::2], info[1::2], strict=True))
        return look_in(
            lane,
            _number(_unless_wrong_type(position)),
            first=[Raw(entry_id.decode(), fields) for entry_id, fields in first],
            top_id=id_of(top[0][0].decode()) if top else (0, 0),
            last_id=id_of(told.get(b"last-generated-id", b"0-0").decode()),
        )

    async def _range(self, lane: int, start: str, end: str, entries_max: int) -> Reply:
        with redis_errors():
            try:
                reply: Reply = await command(
                    self._client_of(lane), "XRANGE", keys.events(lane), start, end, "COUNT", entries_max
                )
            except ResponseError as error:
                if not is_wrong_type(error):
                    raise
                return []
        return reply

    async def discard(self, lane: int, position: int, ended: Sequence[int], *, retention_ms: int) -> None:
        """Remove what is applied: entries up to ``position``, and the packets that have ended after a while.

        A packet's keys stay until the ledger has its end. Otherwise it would look like one that was never opened.
        """
        await self._forget_in(lane, map(str, ended), retention_ms)
        with redis_errors():
            # Not one transaction: a Redis that is out of memory refuses any transaction that contains an HSET, but it
            # does remove things. While ``applied`` is behind, claims stop sooner.
            async with self._client_of(lane).pipeline(transaction=False) as pipeline:
                # Not up to the next position: a script did not write an entry ``<position>-1`` or later.
                pipeline.xtrim(keys.events(lane), minid=f"{position}-1", approximate=False)
                pipeline.hset(keys.lane(lane), "applied", str(position))
                replies = await pipeline.execute(raise_on_error=False)
            self._untold.pop(lane, None)
            if isinstance(replies[-1], OutOfMemoryError):
                self._untold[lane] = position  # the next read sends it again
                replies.pop()
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply

    async def forget(self, packets: Sequence[int], *, retention_ms: int) -> None:
        """Remove, after a while, packets whose end reached the ledger by another way than the stream."""
        lanes: dict[int, list[str]] = {}
        for packet in map(str, packets):
            lanes.setdefault(lane_of(packet), []).append(packet)
        for lane, packet_ids in lanes.items():
            await self._forget_in(lane, packet_ids, retention_ms)

    async def _forget_in(self, lane: int, packet_ids: Iterable[str], retention_ms: int) -> None:
        send = partial(command, self._client_of(lane))
        names = [name for packet_id in packet_ids for name in keys.kept_of(packet_id)]
        with redis_errors():
            for first in range(0, len(names), _FORGOTTEN_KEYS_MAX):
                some = names[first : first + _FORGOTTEN_KEYS_MAX]
                (word,) = await self._forgetting.call(send, some, [retention_ms])
                if Forgotten(word.decode()) is not Forgotten.FORGOTTEN:
                    raise ValueError("forget.lua refused the form of its arguments")

    async def discard_applied(self, lane: int, checkpoint: int, *, retention_ms: int) -> None:
        """Finish the work of a persister that died between its commit and ``discard``."""
        last = "0-0"
        while page := await self._range(lane, f"({last}", f"{checkpoint}-0", _PAGE):
            last = page[-1][0].decode()
            ended = []
            for entry_id, fields in page:
                with contextlib.suppress(BadEntryError):  # it was set aside
                    ended += ended_in(entry_in(lane, Raw(entry_id.decode(), fields)).event)
            await self.discard(lane, id_of(last)[0], ended, retention_ms=retention_ms)
        await self.discard(lane, checkpoint, [], retention_ms=retention_ms)


def joined(position: int, entries: Sequence[Entry]) -> Sequence[Entry]:
    """The entries without a gap: the first must follow ``position``, and each other the entry before it."""
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


async def _entries(lane: int, reply: Reply) -> list[Entry]:
    """The entries up to the first that is bad. Raises BadEntryError if that is the first of all."""
    entries: list[Entry] = []
    try:
        for number, (entry_id, fields) in enumerate(reply, start=1):
            if number % _READ_AT_ONCE == 0:
                await asyncio.sleep(0)
            entries.append(entry_in(lane, Raw(entry_id.decode(), fields)))  # earlier entries are kept on an error
    except BadEntryError:
        if not entries:
            raise
    return entries


def _unless_wrong_type(reply: Any) -> Any:  # noqa: ANN401  # as redis-py has them
    """A reply within a transaction, or None if the key has another type."""
    if is_wrong_type(reply):
        return None
    if isinstance(reply, Exception):
        raise failure_of(reply)
    return reply


def _number(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() else None
