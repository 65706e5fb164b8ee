"""Refunds that wait: packets that are due in Redis, and packets that have ended and are not settled in the ledger."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from engine.errors import UnavailableError, UnknownPacketError
from engine.ids import is_packet_number, lane_of
from engine.lanes.reader import LaneReader
from engine.lanes.replies import Closed, CloseReason
from engine.lanes.store import Store
from engine.ledger.database import ledger_errors
from engine.packets.lists import SQL
from engine.paging import Page, page_of, parse
from engine.records import PacketState

COUNTED_MAX = 10_001
"""Counts stop here: more than anybody would read."""
_DUE_SHOWN_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingRefund:
    """A packet that has ended in the ledger and is not settled. ``asset`` None: money.

    ``quarantined``: its pending rows there.
    """

    packet_id: str
    sender: str
    state: PacketState
    asset: str | None
    scale: int | None
    total_fen: int
    remaining_fen: int
    ended_at_ms: int
    custody_fen: int | None
    quarantined: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DueLane:
    """A lane's packets whose time is over in Redis and which are not closed. ``packets``: the oldest of them.

    ``why_not``: why nothing is known of the lane.
    """

    lane: int
    count: int = 0
    oldest_ms: int | None = None
    packets: tuple[str, ...] = ()
    why_not: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundCounts:
    """``waiting``: ended and not settled. ``faults``: upheld system faults that were not returned yet.

    Counted up to ``COUNTED_MAX``.
    """

    waiting: int
    oldest_ms: int | None
    faults: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedNow:
    """What became of closing one packet. ``state``: of one that had ended before."""

    packet_id: str
    reply: Closed
    remaining_count: int
    remaining_fen: int


class Refunds:
    """Reads both servers."""

    def __init__(self, pool: asyncpg.Pool, store: LaneReader) -> None:
        self._pool, self._store = pool, store

    async def page(self, *, after: str | None, limit: int) -> Page[WaitingRefund]:
        """Packets that have ended and are not settled, oldest first. Raises InvalidFieldsError, UnavailableError."""
        last = parse(after, parts=2, start=(-1, 0))
        with ledger_errors():
            rows = await self._pool.fetch(SQL["refunds_waiting"], *last, limit + 1)
        found = [
            WaitingRefund(**{**row, "packet_id": str(row["packet_id"]), "state": PacketState(row["state"])})
            for row in rows
        ]
        return page_of(found, limit, lambda row: f"{row.ended_at_ms}-{row.packet_id}")

    async def counts(self) -> RefundCounts:
        """How many refunds wait in the ledger. Raises UnavailableError."""
        with ledger_errors():
            (row,) = await self._pool.fetch(SQL["refunds_count"], COUNTED_MAX)
            faults = await self._pool.fetchval(SQL["faults_count"], COUNTED_MAX)
        return RefundCounts(waiting=row["waiting"], oldest_ms=row["oldest_ms"], faults=faults)

    async def due(self, lanes: Sequence[int]) -> list[DueLane]:
        """What is due in Redis, lane by lane. A lane whose server does not answer says so."""
        return list(await asyncio.gather(*map(self._due_in, lanes)))

    async def _due_in(self, lane: int) -> DueLane:
        try:
            now_ms = await self._store.now_ms(lane)
            count, oldest_ms = await self._store.due_count(lane, now_ms)
            packets = await self._store.due(lane, now_ms, _DUE_SHOWN_MAX) if count else []
        except UnavailableError as error:
            return DueLane(lane=lane, why_not=str(error))
        return DueLane(lane=lane, count=count, oldest_ms=oldest_ms, packets=tuple(packets))


async def close_now(store: Store, packet_id: str) -> ClosedNow:
    """Close one packet as the sweeper would: only if its time is over. A repeat changes nothing.

    Raises UnknownPacketError for what is no packet's number, UnavailableError.
    """
    if not is_packet_number(packet_id) or lane_of(packet_id) not in store.epochs:
        raise UnknownPacketError("No packet has this number.")
    reply, remaining_count, remaining_fen = await store.close(packet_id, CloseReason.EXPIRED)
    return ClosedNow(packet_id=packet_id, reply=reply, remaining_count=remaining_count, remaining_fen=remaining_fen)
