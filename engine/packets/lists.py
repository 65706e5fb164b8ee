"""Lists of packets over all senders: by state, sender, label, time and amount; and labels with their sums."""

from dataclasses import dataclass
from datetime import timedelta

import asyncpg

from engine.calendar.china_time import begin_ms, day_of
from engine.ledger.database import ledger_errors
from engine.ledger.money import now_ms
from engine.paging import NEWEST, Page, page_of, parse
from engine.queries import load
from engine.records import PacketState, Purpose

SQL = load("packet_lists")
AMOUNT_MAX = 2**63 - 1
LABEL_PACKETS_MAX = 20_000
"""How many of a label's packets are counted: the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketFilter:
    """Which packets. ``states`` empty: all. Times are of sending, ``before_ms`` exclusive. Amounts are totals."""

    states: tuple[PacketState, ...] = ()
    sender: str | None = None
    label: str | None = None
    from_ms: int | None = None
    before_ms: int | None = None
    least_fen: int | None = None
    most_fen: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPacket:
    """One line, by the ledger. ``asset`` None: money. ``remaining_*``, ``ended_at_ms`` None: it has not ended."""

    packet_id: str
    sender: str
    purpose: Purpose
    label: str | None
    state: PacketState
    asset: str | None
    scale: int | None
    total_fen: int
    count: int
    created_at_ms: int
    ended_at_ms: int | None
    settled_at_ms: int | None
    remaining_count: int | None
    remaining_fen: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSums:
    """A label's packets of money since a time. ``is_whole``: all were counted, not only the newest.

    ``day_sent_fen_max`` None: no limit of its own. ``day_sent_fen``: what counts against it today.
    ``sold_out_ms``: how long its exhausted packets lasted in the mean, None without one.
    """

    label: str
    packets: int
    shares: int
    sent_fen: int
    claimed_fen: int
    refunded_fen: int
    exhausted: int
    sold_out_ms: int | None
    is_whole: bool
    day_sent_fen_max: int | None
    day_sent_fen: int


class PacketLists:
    """Reads the ledger. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def page(self, wanted: PacketFilter, *, after: str | None, limit: int) -> Page[ListedPacket]:
        """Packets, newest first. Raises InvalidFieldsError for an invalid cursor."""
        last = parse(after, parts=2, start=(NEWEST, NEWEST))
        if wanted.before_ms is not None:
            last = min(last, (wanted.before_ms, 0))
        some = (
            [state.value for state in wanted.states or tuple(PacketState)],
            *last,
            wanted.from_ms or 0,
            wanted.least_fen or 0,
            AMOUNT_MAX if wanted.most_fen is None else wanted.most_fen,
            limit + 1,
        )
        with ledger_errors():
            if wanted.sender is not None:
                rows = await self._pool.fetch(SQL["of_sender"], *some, wanted.sender, wanted.label)
            elif wanted.label is not None:
                rows = await self._pool.fetch(SQL["of_label"], *some, wanted.label)
            else:
                rows = await self._pool.fetch(SQL["by_state"], *some)
        found = [
            ListedPacket(
                **{
                    **row,
                    "packet_id": str(row["packet_id"]),
                    "purpose": Purpose(row["purpose"]),
                    "state": PacketState(row["state"]),
                }
            )
            for row in rows
        ]
        return page_of(found, limit, lambda row: f"{row.created_at_ms}-{row.packet_id}")

    async def labels(self, *, prefix: str, from_ms: int, after: str | None, limit: int) -> Page[LabelSums]:
        """Labels in their order, from the one after ``after``, with the sums of their packets since a time."""
        with ledger_errors():
            day = day_of(await now_ms(self._pool))
            bounds = (day, begin_ms(day), begin_ms(day + timedelta(days=1)))
            rows = await self._pool.fetch(
                SQL["labels"], after or "", prefix, from_ms, limit + 1, LABEL_PACKETS_MAX, *bounds
            )
        found = [
            LabelSums(
                **{
                    **row,
                    "sold_out_ms": None if row["sold_out_ms"] < 0 else row["sold_out_ms"],
                    "is_whole": row["packets"] < LABEL_PACKETS_MAX,
                }
            )
            for row in rows
        ]
        return page_of(found, limit, lambda row: row.label)

    async def open_count(self, most: int) -> int:
        """How many packets can be claimed or soon will be, counted up to ``most``."""
        with ledger_errors():
            count: int = await self._pool.fetchval(SQL["open_count"], most)
        return count
