"""Opens paid packets: loads their shares into Redis, chunk by chunk, and marks them open with the last chunk.

Sending does this at once. The publisher does it if a crash came between payment and opening, or if a packet is too
large for a request. Both may work on one packet: every chunk names its offset.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import asyncpg
import numpy as np
import structlog
from numpy.typing import NDArray

from engine.errors import UnavailableError
from engine.ids import lane_of
from engine.lanes.reader import clock_ms
from engine.lanes.replies import Opened
from engine.lanes.store import Chunk, Store
from engine.lanes.topology import Node
from engine.loops import every
from engine.observability.repeats import repeats
from engine.packets.split import luckiest_slot, split
from engine.queries import load
from engine.records import Ack, SplitKind

LOG = structlog.get_logger()
SQL = load("publisher")
LEDGER_READING_MS_MAX = 60_000
"""How old the reading "this packet is funded" may be when the first chunk is loaded.

It must be shorter than a settled packet's keys are kept (``settled_retention_s``, at least 120 s). Until then, a packet
that another process opened is still there and answers EXISTS. Later it might be gone, and would be opened twice.
"""
SHARES_PER_CALL_MAX = 5_000
"""How many shares one script call loads. It blocks Redis for some 2 ms. The script could take 7,000."""
INLINE_COUNT_MAX = 5_000
"""Packets with more shares are opened by the publisher, not by the request that sends them."""
INTERVAL_S = 1.0
"""How often the publisher looks for packets that are paid for but not open."""
AGE_S = 2.0
"""How old such a packet must be, so that its own request can open it first. Larger packets are opened at once."""
_PAGE = 200
_IN_THREAD_COUNT_MIN = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Funded:
    """The ledger's data for opening a packet."""

    packet_id: str
    split: SplitKind
    total_fen: int
    count: int
    min_fen: int
    max_fen: int
    seed: bytes
    recipients: Sequence[str]
    ack: Ack | None
    arrives_at_ms: int | None
    expires_at_ms: int


async def open_packet(
    store: Store, funded: Funded, *, shares_per_call: int, read_at_ms: int, epoch: str | None = None
) -> Opened:
    """Load a packet's shares. ``read_at_ms``: Redis's clock before the ledger was read and the packet was funded.

    ``epoch``: the lane's epoch as this process knew it before that reading. A lane that was rebuilt since refuses: the
    packet may have been opened, claimed and ended meanwhile, and a rebuilt lane does not hold ended packets.

    Returns OPENED, EXISTS (another process had opened it) or LATE (read the ledger again).
    """
    amounts = await amounts_of(funded)
    luckiest = luckiest_slot(amounts)
    offset = 0
    while True:
        part = amounts[offset : offset + shares_per_call].tolist()
        chunk = Chunk(
            packet_id=funded.packet_id,
            offset=offset,
            count=funded.count,
            total_fen=funded.total_fen,
            expires_at_ms=funded.expires_at_ms,
            luckiest_share=f"{luckiest}:{amounts[luckiest]}",
            ack=funded.ack,
            arrives_at_ms=funded.arrives_at_ms,
            recipients=funded.recipients,
            shares=[f"{slot}:{amount_fen}" for slot, amount_fen in enumerate(part, start=offset)],
        )
        reply, loaded = await store.open(chunk, not_after_ms=read_at_ms + LEDGER_READING_MS_MAX, epoch=epoch)
        if reply not in (Opened.LOADED, Opened.OFFSET):
            return reply
        offset = loaded


async def amounts_of(funded: Funded) -> NDArray[np.int64]:
    """A packet's shares in fen, in the order of giving. Many are split in a thread."""
    terms = (funded.split, funded.total_fen, funded.count, funded.min_fen, funded.max_fen, funded.seed)
    if funded.count >= _IN_THREAD_COUNT_MIN:
        return await asyncio.to_thread(split, *terms)
    return split(*terms)


async def publish_once(pool: asyncpg.Pool, store: Store) -> int:
    """Open every packet that has been funded for a while and is not in Redis. Returns how many were opened."""
    return sum(await asyncio.gather(*(publish_on(pool, store, node) for node in store.topology.nodes)))


async def publish_on(pool: asyncpg.Pool, store: Store, node: Node) -> int:
    """The same for the lanes of one server."""
    opened, after = 0, 0
    while True:
        read_at_ms, epochs = await clock_ms(node), dict(store.epochs)
        rows = await pool.fetch(SQL["funded"], after, AGE_S, INLINE_COUNT_MAX, _PAGE)
        if not rows:
            return opened
        after = rows[-1]["packet_id"]
        waiting = [funded_from(row) for row in rows if store.node_of_packet(str(row["packet_id"])) is node]
        # Most are already open and wait for the persister. Reading the state is cheaper than a split.
        states = await store.states([funded.packet_id for funded in waiting])
        for funded, state in zip(waiting, states, strict=True):
            if state in (None, "loading"):
                epoch = epochs.get(lane_of(funded.packet_id))
                opened += await _publish(store, funded, read_at_ms=read_at_ms, epoch=epoch)


async def _publish(store: Store, funded: Funded, *, read_at_ms: int, epoch: str | None) -> bool:
    """Open one packet. Returns whether this call did; a failure is logged."""
    shares = SHARES_PER_CALL_MAX
    try:
        reply = await open_packet(store, funded, shares_per_call=shares, read_at_ms=read_at_ms, epoch=epoch)
    except UnavailableError as error:
        if times := repeats.times(("not_opened", funded.packet_id), str(error)):
            LOG.warning("not_opened", packet_id=funded.packet_id, error=str(error), times=times)
        return False
    if reply is Opened.OPENED:
        LOG.info("opened", packet_id=funded.packet_id, count=funded.count)
    return reply is Opened.OPENED


async def publish(pool: asyncpg.Pool, store: Store, stop: asyncio.Event) -> None:
    """Publish again and again until ``stop`` is set. Failures are logged and retried.

    Each server's lanes have a loop of their own, so that a server that hangs delays nobody else.
    """

    async def once(node: Node) -> bool:
        await publish_on(pool, store, node)
        return False

    async with asyncio.TaskGroup() as group:
        for node in store.topology.nodes:
            group.create_task(every("publisher", INTERVAL_S, stop, partial(once, node)))


def funded_from(row: asyncpg.Record) -> Funded:
    """The data for opening, from a row of ``packets``."""
    return Funded(
        packet_id=str(row["packet_id"]),
        split=SplitKind(row["split"]),
        total_fen=row["total_fen"],
        count=row["count"],
        min_fen=row["min_fen"],
        max_fen=row["max_fen"],
        seed=row["seed"],
        recipients=row["recipients"],
        ack=None if row["ack"] is None else Ack(row["ack"]),
        arrives_at_ms=row["arrives_at_ms"],
        expires_at_ms=row["expires_at_ms"],
    )
