"""The invariants between Redis and the ledger.

The order of reading matters, because money may move meanwhile. A claim goes Redis -> stream -> ledger and never back.
So a claim in the ledger must be in Redis, if Redis is read afterwards. And a claim in Redis must be in the stream or
the ledger, if these are read afterwards and in this order.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

import asyncpg

from engine.events import Claims
from engine.ids import lane_of
from engine.lanes.entries import BadEntryError
from engine.lanes.reader import READ_WHOLE_COUNT_MAX, Held, LaneReader
from engine.lanes.stream import EventStream
from engine.packets.split import split
from engine.queries import load
from engine.records import PacketState, SplitKind
from engine.recovery.bad_entries import first_bad

SQL, LANES = load("audit"), load("lanes")
Result = tuple[int, list[str]]
Check = Callable[[asyncpg.Pool, LaneReader, EventStream], Awaitable[Result]]
Given = dict[str, tuple[int, int]]
"""The claims of one packet: user -> (slot, amount_fen)."""
_TRIES_MAX = 5
_PACKETS_PAGE, _SHARES_PAGE = 200, 5_000
"""How much is read at one moment. It blocks Redis for some milliseconds."""


async def stream_continues_ledger(pool: asyncpg.Pool, store: LaneReader, stream: EventStream) -> Result:
    """The stream has the same epoch, is not behind the checkpoint or trimmed past it, and has no gap."""
    problems, examined = [], 0
    for row in await pool.fetch(LANES["all"]):
        lane, checkpoint = row["lane"], row["position"]
        status = await store.lane_status(lane)
        if status is None:
            problems.append(f"lane {lane}: Redis has lost it")
            continue
        if status.epoch != row["epoch"]:
            problems.append(f"lane {lane}: it is fenced, or Redis belongs to another ledger")
        if status.position < checkpoint:
            problems.append(f"lane {lane}: Redis is at change {status.position}, the ledger at {checkpoint}")
        reached, gaps = checkpoint, []
        try:
            async for first, last in _entries_after(stream, lane, checkpoint):
                examined += 1
                if first > reached:
                    gaps.append((reached, first))
                reached = last
        except BadEntryError:
            gaps.append((reached, reached))  # reported below
        if (blocked := await _blocked(pool, stream, lane, is_suspect=bool(gaps))) is not None:
            problems.append(f"lane {lane}: {blocked}")
            continue
        if reached < status.position:
            gaps.append((reached, status.position))
        # The persister may have applied and trimmed meanwhile: changes that the ledger has by now are no gap.
        now_applied = await pool.fetchval(LANES["checkpoint"], lane)
        problems += [
            f"lane {lane}: changes {max(after, now_applied) + 1} to {up_to} are gone from the stream"
            for after, up_to in gaps
            if up_to > now_applied
        ]
    return examined, problems


async def _blocked(pool: asyncpg.Pool, stream: EventStream, lane: int, *, is_suspect: bool) -> str | None:
    """A sentence about a bad entry in a lane's stream, or None."""
    checkpoint = await pool.fetchval(LANES["checkpoint"], lane)
    look = await stream.look(lane, checkpoint)
    if not look.is_stream:
        return "Redis has a key of another type in the place of its stream"
    bad = await first_bad(stream, lane, checkpoint) if is_suspect or look.bad is not None else None
    return None if bad is None and look.bad is None else str(bad or look.bad)


async def _entries_after(stream: EventStream, lane: int, position: int) -> AsyncIterator[tuple[int, int]]:
    """Each entry after a position as (position before it, position after it)."""
    while entries := await stream.page(lane, after=position):
        for entry in entries:
            yield entry.position - entry.event.changes, entry.position
        position = entries[-1].position


async def agrees(
    pool: asyncpg.Pool, store: LaneReader, stream: EventStream, settled_after_ms: int | None = None
) -> Result:
    """Per packet in Redis: every share once, either given or left. A given share is in the ledger or on its way.

    ``settled_after_ms``: packets that were settled before then are left out, because Redis has dropped them.
    """
    problems: list[str] = []
    on_their_way: dict[int, Given] = {}
    rows = sorted(await pool.fetch(SQL["packets_in_redis"], settled_after_ms), key=lambda row: str(row["packet_id"]))
    examined = 0
    for page in _pages(rows):
        packets = [row["packet_id"] for row in page]
        in_ledger = await _by_packet(pool, SQL["claims_of_many"], packets)
        read = await _read_page(store, page)
        aside = await _by_packet(pool, SQL["quarantined_claims"], packets)
        for row, held in zip(page, read, strict=True):
            packet = row["packet_id"]
            if held is None:
                # The packet is not opened yet, or it has ended, settled and been dropped. An open packet must be there.
                if row["state"] == PacketState.OPEN and await store.counts(str(packet)) is None:
                    problems.append(f"packet {packet}: it is open and Redis has lost it")
                continue
            examined += 1
            given = {claim.user_id: (claim.slot, claim.amount_fen) for claim in held.given}
            problems += [f"packet {packet}: {wrong}" for wrong in _wrong_shares(row, held)]
            problems += [
                f"packet {packet}: the ledger gave {user} {amount_fen} fen, Redis has {given.get(user)}"
                for user, (slot, amount_fen) in in_ledger[packet].items()
                if given.get(user) not in ((slot, amount_fen), aside[packet].get(user, ()))
            ]
            ahead = {user: share for user, share in given.items() if user not in in_ledger[packet]}
            if ahead:
                on_their_way[packet] = ahead
    problems += await _lost_on_the_way(pool, stream, on_their_way)
    return examined, problems


def _pages(rows: Sequence[asyncpg.Record]) -> Iterator[list[asyncpg.Record]]:
    """Packets to read together: small ones of one lane, or a single large one."""
    page: list[asyncpg.Record] = []
    shares = 0
    for row in rows:
        is_full = len(page) >= _PACKETS_PAGE or shares + row["count"] > _SHARES_PAGE
        if page and (is_full or _kind(row) != _kind(page[0])):
            yield page
            page, shares = [], 0
        page.append(row)
        shares += row["count"]
    if page:
        yield page


def _kind(row: asyncpg.Record) -> tuple[int, bool]:
    """The packet's lane, and whether it can be read whole."""
    return lane_of(str(row["packet_id"])), row["count"] <= READ_WHOLE_COUNT_MAX


async def _read_page(store: LaneReader, page: Sequence[asyncpg.Record]) -> list[Held | None]:
    packet_ids = [str(row["packet_id"]) for row in page]
    if not _kind(page[0])[1]:
        return [await _read(store, packet_id) for packet_id in packet_ids]
    return await store.held(packet_ids)


async def _lost_on_the_way(pool: asyncpg.Pool, stream: EventStream, ahead: dict[int, Given]) -> list[str]:
    """Shares that Redis has given, but that are neither in the stream nor, by now, in the ledger."""
    if not ahead:
        return []
    in_stream: defaultdict[int, Given] = defaultdict(dict)
    for row in await pool.fetch(LANES["all"]):
        # An unreadable entry accounts for nothing.
        async for entry in stream.scan(row["lane"]):
            for change in entry.changes:
                if isinstance(change, Claims):
                    shares = zip(change.slots, change.amounts_fen, strict=True)
                    in_stream[change.packet].update(zip(change.user_ids, shares, strict=True))
    problems = []
    for packet, given in ahead.items():
        aside = await _by_packet(pool, SQL["quarantined_claims"], [packet])
        in_ledger = await _by_packet(pool, SQL["claims_of_many"], [packet])
        accounted = in_stream[packet] | aside[packet] | in_ledger[packet]
        problems += [
            f"packet {packet}: Redis gave {user} {amount_fen} fen, and neither an event nor a ledger entry has it"
            for user, (slot, amount_fen) in given.items()
            if accounted.get(user) != (slot, amount_fen)
        ]
    return problems


async def _by_packet(pool: asyncpg.Pool, query: str, packets: Sequence[int]) -> defaultdict[int, Given]:
    """The claims of each packet, by ``claims_of_many`` or ``quarantined_claims`` (those that the ledger set aside).

    `nothing_quarantined` reports the pending ones.
    """
    found: defaultdict[int, Given] = defaultdict(dict)
    for row in await pool.fetch(query, packets):
        found[row["packet_id"]][row["user_id"]] = (row["slot"], row["amount_fen"])
    return found


async def _read(store: LaneReader, packet_id: str) -> Held | None:
    """Read a packet in pages until it does not change meanwhile. None if Redis does not hold it or it never rests."""
    for _ in range(_TRIES_MAX):
        before = await store.counts(packet_id)
        if before is None:
            return None
        # A scan may return an entry twice.
        rows = list({row.user_id: row async for row in store.scan_claims(packet_id)}.values())
        left = [share async for share in store.scan_shares(packet_id)]
        if await store.counts(packet_id) == before:
            return Held(before, rows, left)
    return None


def _wrong_shares(row: asyncpg.Record, held: Held) -> list[str]:
    """Compare given and left shares with the split. A closed packet has dropped its list."""
    problems = []
    counts, given, left = held
    given_fen = sum(claim.amount_fen for claim in given)
    terms = (SplitKind(row["split"]), row["total_fen"], row["count"], row["min_fen"], row["max_fen"], row["seed"])
    amounts = split(*terms).tolist()
    seen = [*((claim.slot, claim.amount_fen) for claim in given), *left]
    for slot, amount_fen in seen:
        if not 0 <= slot < len(amounts) or amounts[slot] != amount_fen:
            problems.append(f"share {slot} of {amount_fen} fen in Redis is not in its split")
    if len({slot for slot, _ in seen}) < len(seen):
        problems.append("a share is in Redis twice")
    if len(given) + counts.remaining_count != row["count"]:
        problems.append(f"{row['count']} shares, but {len(given)} given and {counts.remaining_count} left in Redis")
    if given_fen + counts.remaining_fen != row["total_fen"]:
        problems.append(f"total {row['total_fen']} fen, but {given_fen} given and {counts.remaining_fen} left in Redis")
    if counts.state is PacketState.OPEN and len(left) != counts.remaining_count:
        problems.append(f"{counts.remaining_count} shares are left, the list in Redis holds {len(left)}")
    if counts.state is not PacketState.OPEN and left:
        problems.append(f"it is {counts.state.value}, but the list in Redis holds {len(left)}")
    return problems
