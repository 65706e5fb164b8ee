"""Finds the changes of unreadable events in Redis's packets.

If an event is lost, its claim is still in the packet's hash, and an end in the packet's state. A change that is there,
but neither in the ledger nor in the rest of the stream, can only come from an event that could not be read.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import asyncpg

from engine.events import Change, Claims, Ending, Opening
from engine.lanes.reader import LaneReader, LiveCounts
from engine.lanes.stream import EventStream
from engine.queries import load
from engine.records import ClaimRow, PacketState

SQL = load("entries_aside")
_PAGE = 200


@dataclass(slots=True)
class _Ahead:
    """What Redis has of one packet and the ledger lacks."""

    packet: int
    is_opened: bool
    claims: list[ClaimRow]
    counts: LiveCounts


@dataclass(slots=True)
class _Told:
    """The contents of the readable events."""

    opened: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)
    given: set[tuple[int, int]] = field(default_factory=set)


async def lost_changes(
    connection: asyncpg.Connection, reader: LaneReader, stream: EventStream, lane: int, after: int
) -> list[Change]:
    """Openings, single claims and endings that are in no event after a position. One change each, without positions.

    Only for the holder of the lane's lease. Raises UnavailableError.
    """
    # Packets first, then the stream: a share that is given meanwhile is in both.
    ahead = [one async for one in _ahead(connection, reader, lane)]
    told = await _told(stream, lane, after)
    now_ms = await reader.now_ms(lane)
    openings: list[Change] = []
    claims: list[tuple[int, Change]] = []
    endings: list[Change] = []
    for one in ahead:
        packet, counts = one.packet, one.counts
        if one.is_opened and packet not in told.opened:
            openings.append(Opening(packet, now_ms, 0))
        rows = sorted(one.claims, key=lambda row: row.claimed_at_ms)
        for row in rows:
            if (packet, row.slot) not in told.given:
                at_ms = row.claimed_at_ms
                claims.append((at_ms, Claims(packet, [row.user_id], [row.slot], [row.amount_fen], at_ms, 0)))
        if counts.state is not PacketState.OPEN and packet not in told.ended:
            endings.append(Ending(packet, counts.state, counts.remaining_count, counts.remaining_fen, now_ms, 0))
    claims.sort(key=lambda claim: claim[0])
    return [*openings, *(claim for _, claim in claims), *endings]


def placed(changes: Sequence[Change], after: int, most: int) -> list[Change]:
    """Number at most ``most`` changes, from the position after ``after`` on.

    A packet's exhaustion belongs to its last claim's change and has the same position.
    """
    exhausted = {
        change.packet: change
        for change in changes
        if isinstance(change, Ending) and change.state is PacketState.EXHAUSTED
    }
    left = [change for change in changes if not (isinstance(change, Ending) and change.packet in exhausted)]
    last = {change.packet: place for place, change in enumerate(left) if isinstance(change, Claims)}
    result: list[Change] = []
    for place, change in enumerate(left[:most]):
        position = after + place + 1
        result.append(change._replace(position=position))
        if change.packet in exhausted and last.get(change.packet) == place:
            result.append(exhausted[change.packet]._replace(position=position))
    return result


async def _ahead(connection: asyncpg.Connection, reader: LaneReader, lane: int) -> AsyncIterator[_Ahead]:
    after = 0
    while rows := await connection.fetch(SQL["live_packets"], lane, after, _PAGE):
        after = rows[-1]["packet_id"]
        aside = {(row["packet_id"], row["kind"]) for row in await _others(connection, rows)}
        for row in rows:
            packet = row["packet_id"]
            claims = {claim.user_id: claim async for claim in reader.scan_claims(str(packet))}
            counts = await reader.counts(str(packet))
            if counts is None:
                continue
            known = {claim["slot"] for claim in await connection.fetch(SQL["known_claims"], packet)}
            missing = [claim for claim in claims.values() if claim.slot not in known]
            is_opened = row["state"] == PacketState.FUNDED and (packet, "opening") not in aside
            has_ended = counts.state is not PacketState.OPEN and (packet, "ending") not in aside
            if is_opened or missing or has_ended:
                yield _Ahead(packet, is_opened, missing, counts)


async def _others(connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]) -> list[asyncpg.Record]:
    found: list[asyncpg.Record] = await connection.fetch(SQL["known_others"], [row["packet_id"] for row in rows])
    return found


async def _told(stream: EventStream, lane: int, after: int) -> _Told:
    told = _Told()
    async for entry in stream.scan(lane, after=after):
        for change in entry.changes:
            if isinstance(change, Opening):
                told.opened.add(change.packet)
            elif isinstance(change, Ending):
                told.ended.add(change.packet)
            else:
                told.given.update((change.packet, slot) for slot in change.slots)
    return told
