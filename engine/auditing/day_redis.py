"""Compares a day's claims in Redis with the ledger and the stream.

Claims go from Redis through the stream into the ledger and never back. So a claim that was in the ledger before Redis
was read must be in Redis. And a claim in Redis must be in the stream, in quarantine or in the ledger, if these are read
afterwards and in this order.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

import asyncpg

from engine.auditing.comparison import SQL, Comparison, Day, Pairs, Subject, Units
from engine.events import Claims
from engine.ids import lane_of
from engine.lanes.reader import READ_WHOLE_COUNT_MAX, LaneReader
from engine.lanes.stream import EventStream
from engine.queries import load
from engine.records import ClaimRow

LANES = load("lanes")
Given = dict[str, tuple[int, int]]
"""The claims of one packet: user -> (slot, amount_fen)."""
_PACKETS_PAGE, _SHARES_PAGE = 500, 5_000


async def claims(pool: asyncpg.Pool, store: LaneReader, stream: EventStream, day: Day) -> list[Comparison]:
    """Compare each live packet's claims of the day, of each asset. Raises UnavailableError, asyncpg's errors."""
    found, units = Pairs("claims in live packets in Redis", "in the ledger or on their way"), Units(pool)
    ahead: dict[int, Given] = {}
    assets: dict[int, str | None] = {}
    async for packets in _pages(pool, day):
        in_ledger = await _of_packets(pool, SQL["claims"], day, packets)
        live = await _live(store, packets, day)
        aside = await _of_packets(pool, SQL["claims_aside"], day, list(live))
        of = {row["packet_id"]: row["asset"] for row in packets}
        for packet, given in live.items():
            pair = found.of(of[packet])
            for _, amount_fen in given.values():
                pair.left.add(amount_fen)
            for user, share in in_ledger[packet].items():
                pair.right.add(share[1])
                if given.get(user) not in (share, aside[packet].get(user, ())):
                    gave = await _share(units, of[packet], user, share)
                    told = f"packet {packet}: the ledger gave {gave}, Redis did not"
                    pair.differences.add(told, Subject(packet_id=str(packet), user_id=user))
            if late := {user: share for user, share in given.items() if user not in in_ledger[packet]}:
                ahead[packet], assets[packet] = late, of[packet]
    await _account_for(pool, stream, day, ahead, assets, found=found, units=units)
    return found.compared("claims: Redis")


async def _account_for(
    pool: asyncpg.Pool,
    stream: EventStream,
    day: Day,
    ahead: dict[int, Given],
    assets: dict[int, str | None],
    *,
    found: Pairs,
    units: Units,
) -> None:
    """Look for claims that Redis has and that the ledger lacked when it was read."""
    if not ahead:
        return
    waiting = await _in_streams(pool, stream)
    aside = await _of_packets(pool, SQL["claims_aside"], day, list(ahead))
    in_ledger = await _of_packets(pool, SQL["claims"], day, list(ahead))
    for packet, given in ahead.items():
        pair = found.of(assets[packet])
        accounted = waiting[packet] | aside[packet] | in_ledger[packet]
        for user, share in given.items():
            if accounted.get(user) == share:
                pair.right.add(share[1])
            else:
                told = f"packet {packet}: Redis gave {await _share(units, assets[packet], user, share)}"
                subject = Subject(packet_id=str(packet), user_id=user)
                pair.differences.add(f"{told}; neither the stream nor the ledger has it", subject)


async def _share(units: Units, asset: str | None, user: str, share: tuple[int, int]) -> str:
    return f"{user} {await units.said(share[1], asset)} (share {share[0]})"


async def _pages(pool: asyncpg.Pool, day: Day) -> AsyncIterator[list[asyncpg.Record]]:
    """Packets to read together: of one lane, with at most a few thousand shares in all, or a single packet."""
    after = 0
    while rows := await pool.fetch(SQL["packets_page"], *day, after, _PACKETS_PAGE):
        after = rows[-1]["packet_id"]
        page: list[asyncpg.Record] = []
        shares = 0
        for row in rows:
            shares += row["count"]
            if page and (shares > _SHARES_PAGE or _lane(row) != _lane(page[0])):
                yield page
                page, shares = [], row["count"]
            page.append(row)
        yield page


def _lane(row: asyncpg.Record) -> int:
    return lane_of(str(row["packet_id"]))


async def _live(store: LaneReader, packets: Sequence[asyncpg.Record], day: Day) -> dict[int, Given]:
    """The day's claims of the packets that Redis holds."""
    small = [str(row["packet_id"]) for row in packets if row["count"] <= READ_WHOLE_COUNT_MAX]
    live = {}
    for packet_id, held in zip(small, await store.held(small) if small else [], strict=True):
        if held is not None:
            live[int(packet_id)] = _given(held.given, day)
    for row in packets:
        if row["count"] > READ_WHOLE_COUNT_MAX:
            packet_id = str(row["packet_id"])
            found = [claim async for claim in store.scan_claims(packet_id)]
            # If the packet was dropped during the reading, some claims may be missing.
            if await store.counts(packet_id) is not None:
                live[row["packet_id"]] = _given(found, day)
    return live


def _given(rows: Sequence[ClaimRow], day: Day) -> Given:
    return {row.user_id: (row.slot, row.amount_fen) for row in rows if day.has(row.claimed_at_ms)}


async def _of_packets(
    pool: asyncpg.Pool, query: str, day: Day, packets: Sequence[int] | Sequence[asyncpg.Record]
) -> defaultdict[int, Given]:
    numbers = [packet if isinstance(packet, int) else packet["packet_id"] for packet in packets]
    found: defaultdict[int, Given] = defaultdict(dict)
    for row in await pool.fetch(query, *day, numbers):
        found[row["packet_id"]][row["user_id"]] = (row["slot"], row["amount_fen"])
    return found


async def _in_streams(pool: asyncpg.Pool, stream: EventStream) -> defaultdict[int, Given]:
    """Every claim that the streams still hold."""
    waiting: defaultdict[int, Given] = defaultdict(dict)
    for row in await pool.fetch(LANES["all"]):
        # An unreadable entry accounts for nothing.
        async for entry in stream.scan(row["lane"]):
            for change in entry.changes:
                if isinstance(change, Claims):
                    shares = zip(change.slots, change.amounts_fen, strict=True)
                    waiting[change.packet].update(zip(change.user_ids, shares, strict=True))
    return waiting
