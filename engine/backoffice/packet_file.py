"""One packet as operators see it: terms, timeline, custody, claims, and Redis's side against the ledger's."""

from dataclasses import dataclass
from enum import StrEnum

import asyncpg

from engine.disputes.lists import DisputeLists, ListedDispute
from engine.errors import UnavailableError, UnknownPacketError
from engine.ids import is_packet_number
from engine.lanes.reader import LaneReader
from engine.ledger.database import ledger_errors
from engine.paging import Page, page_of, parse
from engine.persisting.quarantine import Aside
from engine.persisting.quarantine_lists import QuarantineFilter, QuarantineLists
from engine.queries import load
from engine.records import ClaimRow, PacketState, Purpose, SplitKind

SQL = load("packet_file")
COUNTED_SHARES_MAX = 100_000
"""Claims of larger packets are not counted: their custody tells the sum."""
_ASIDE_MAX = 100


class Moment(StrEnum):
    """What happened to a packet."""

    SENT = "sent"
    FIRST_CLAIM = "first_claim"
    LAST_CLAIM = "last_claim"
    RETRACTION_ASKED = "retraction_asked"
    ENDED = "ended"
    REFUND = "refund"
    WRITE_OFF = "write_off"
    SETTLED = "settled"
    ARRIVES = "arrives"
    EXPIRES = "expires"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One moment. ``transfer_id``: the ledger entry that it is. ``amount_fen``: what moved."""

    moment: Moment
    at_ms: int
    amount_fen: int | None = None
    transfer_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketFacts:
    """The ledger's row. ``asset`` None: money. ``custody_fen`` None: the packet has no custody account."""

    packet_id: str
    sender: str
    purpose: Purpose
    label: str | None
    split: SplitKind
    asset: str | None
    scale: int | None
    total_fen: int
    count: int
    min_fen: int
    max_fen: int
    greeting: str
    recipients: tuple[str, ...]
    ack: str | None
    commitment: str
    created_at_ms: int
    arrives_at_ms: int | None
    expires_at_ms: int
    state: PacketState
    remaining_count: int | None
    remaining_fen: int | None
    ended_at_ms: int | None
    settled_at_ms: int | None
    custody_fen: int | None
    campaign_id: str | None
    wave: int | None
    retraction: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of the comparison. None: not known (Redis has dropped it, or it has too many shares to count)."""

    state: str | None
    given_count: int | None
    given_fen: int | None
    left_count: int | None
    left_fen: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketFile:
    """``redis`` None: Redis has not got it. ``redis_error``: why nothing is known of Redis.

    ``agrees`` None: there is nothing to compare. While the ledger is behind, Redis has given more.
    """

    facts: PacketFacts
    timeline: list[TimelineEntry]
    ledger: Side
    redis: Side | None
    redis_error: str | None
    agrees: bool | None
    quarantine: list[Aside]
    disputes: list[ListedDispute]


class PacketFiles:
    """Reads both servers."""

    def __init__(self, pool: asyncpg.Pool, store: LaneReader) -> None:
        self._pool, self._store = pool, store

    async def one(self, packet_id: str) -> PacketFile:
        """A packet. Raises UnknownPacketError, UnavailableError for Postgres."""
        row = await self._row(packet_id)
        number = int(packet_id)
        with ledger_errors():
            entries = await self._pool.fetch(SQL["entries"], number)
            given = await self._pool.fetchrow(SQL["given"], number) if row["count"] <= COUNTED_SHARES_MAX else None
        facts = _facts(row)
        ledger = _ledger_side(facts, given)
        redis, redis_error = await self._redis_side(packet_id)
        aside = await QuarantineLists(self._pool).page(
            QuarantineFilter(is_open=None, packet_id=packet_id), after=None, limit=_ASIDE_MAX
        )
        return PacketFile(
            facts=facts,
            timeline=_timeline(row, entries, given),
            ledger=ledger,
            redis=redis,
            redis_error=redis_error,
            agrees=None if redis is None else _agree(redis, ledger),
            quarantine=aside.rows,
            disputes=await DisputeLists(self._pool).of_packet(packet_id),
        )

    async def claims(self, packet_id: str, *, after: str | None, limit: int) -> Page[ClaimRow]:
        """A packet's claims in the ledger, in slot order. Raises UnknownPacketError, InvalidFieldsError."""
        (last_slot,) = parse(after, parts=1, start=(-1,))
        if not is_packet_number(packet_id):
            raise UnknownPacketError("No packet has this number.")
        with ledger_errors():
            rows = await self._pool.fetch(SQL["claims"], int(packet_id), last_slot, limit + 1)
        return page_of([ClaimRow(**row) for row in rows], limit, lambda claim: str(claim.slot))

    async def asset_of(self, packet_id: str) -> tuple[str | None, int | None]:
        """What a packet's amounts are of, and its scale. None: money, or nobody knows the packet."""
        if not is_packet_number(packet_id):
            raise UnknownPacketError("No packet has this number.")
        with ledger_errors():
            row = await self._pool.fetchrow(SQL["asset"], int(packet_id))
        return (None, None) if row is None else (row["asset"], row["scale"])

    async def _row(self, packet_id: str) -> asyncpg.Record:
        row = None
        if is_packet_number(packet_id):
            with ledger_errors():
                row = await self._pool.fetchrow(SQL["packet"], int(packet_id))
        if row is None:
            raise UnknownPacketError("No packet has this number.")
        return row

    async def _redis_side(self, packet_id: str) -> tuple[Side | None, str | None]:
        try:
            live = await self._store.counts(packet_id)
        except UnavailableError as error:
            return None, str(error)
        if live is None:
            return None, None
        return Side(
            state=live.state.value,
            given_count=live.count - live.remaining_count,
            given_fen=live.total_fen - live.remaining_fen,
            left_count=live.remaining_count,
            left_fen=live.remaining_fen,
        ), None


def _facts(row: asyncpg.Record) -> PacketFacts:
    values = {name: row[name] for name in PacketFacts.__dataclass_fields__ if name in row}
    return PacketFacts(
        **{
            **values,
            "packet_id": str(row["packet_id"]),
            "purpose": Purpose(row["purpose"]),
            "split": SplitKind(row["split"]),
            "state": PacketState(row["state"]),
            "recipients": tuple(row["recipients"]),
            "commitment": row["commitment"].hex(),
            "campaign_id": None if row["campaign_id"] is None else str(row["campaign_id"]),
        }
    )


def _ledger_side(facts: PacketFacts, given: asyncpg.Record | None) -> Side:
    return Side(
        state=facts.state.value,
        given_count=None if given is None else given["count"],
        given_fen=None if given is None else given["fen"],
        left_count=None if given is None else facts.count - given["count"],
        left_fen=None if given is None else facts.total_fen - given["fen"],
    )


def _agree(redis: Side, ledger: Side) -> bool:
    """Whether both have given the same. A packet that is paid and not open yet has given nothing on either side."""
    if ledger.given_count is None:
        return redis.state == ledger.state
    return (redis.given_count, redis.given_fen) == (ledger.given_count, ledger.given_fen)


def _timeline(row: asyncpg.Record, entries: list[asyncpg.Record], given: asyncpg.Record | None) -> list[TimelineEntry]:
    moments = {"send": Moment.SENT, "refund": Moment.REFUND, "write_off": Moment.WRITE_OFF}
    found = [
        TimelineEntry(
            moment=moments[entry["kind"]],
            at_ms=entry["at_ms"],
            amount_fen=entry["amount_fen"],
            transfer_id=str(entry["transfer_id"]),
        )
        for entry in entries
        if entry["kind"] in moments
    ]
    times = {
        Moment.FIRST_CLAIM: given and given["first_ms"],
        Moment.LAST_CLAIM: given and given["last_ms"],
        Moment.RETRACTION_ASKED: row["retraction_asked_at_ms"],
        Moment.ENDED: row["ended_at_ms"],
        Moment.SETTLED: row["settled_at_ms"],
        Moment.ARRIVES: row["arrives_at_ms"],
        Moment.EXPIRES: row["expires_at_ms"],
    }
    found += [TimelineEntry(moment=moment, at_ms=at_ms) for moment, at_ms in times.items() if at_ms is not None]
    order = list(Moment)
    return sorted(found, key=lambda entry: (entry.at_ms, order.index(entry.moment)))
