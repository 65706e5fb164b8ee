"""What the tests of the ledger and of the use cases share: money and packets on the way in, the books looked at."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from uuid import uuid4

import asyncpg

from engine.engine import Engine
from engine.ids import lane_of
from engine.lanes import keys
from engine.lanes.clients import command
from engine.packets.sending import Sent
from engine.packets.terms import terms_from
from engine.records import PacketState, SplitKind
from engine.running.processes import run_persister, run_sweeper
from engine.settings import Settings
from tests.support.waiting import wait_until
from tests.support.warm import Forked, warm

_PERSIST = """
import asyncio, sys
import uvloop
from engine.running.processes import run_persister
from engine.settings import Settings
uvloop.run(run_persister(Settings.model_validate_json(sys.argv[1]), asyncio.Event()))
"""


def changed(settings: Settings, **values: object) -> Settings:
    """The settings with other values, checked."""
    return Settings.model_validate({**dict(settings), **values})


async def fund(engine: Engine, user_id: str, amount_fen: int) -> None:
    """Give a user money."""
    await engine.wallets.deposit(user_id, amount_fen, idempotency_key=uuid4().hex, request_hash=b"deposit")


async def send(
    engine: Engine,
    sender: str = "alice",
    total_fen: int = 1_000,
    count: int = 10,
    split: SplitKind = SplitKind.LUCKY,
    **terms: Any,  # noqa: ANN401  # those of ``terms_from``
) -> Sent:
    """Send a packet that its sender was given the money for."""
    await fund(engine, sender, total_fen)
    checked = terms_from(settings=engine.settings, total_fen=total_fen, count=count, split=split, **terms)
    return await engine.packets.send(sender, checked, idempotency_key=uuid4().hex, request_hash=b"send")


async def send_in(engine: Engine, lane: int, **terms: Any) -> str:  # noqa: ANN401  # those of ``send``
    """The number of a packet in this lane: chance decides of each which lane it is in."""
    while True:
        packet_id = (await send(engine, **terms)).packet_id
        if lane_of(packet_id) == lane:
            return packet_id


async def pay_only(engine: Engine, sender: str = "alice", **terms: Any) -> str:  # noqa: ANN401  # those of ``send``
    """A packet that is paid for and not opened, as after a crash between the two; its number.

    The lanes are closed to every script for as long as the sending takes.
    """
    epochs = {lane: await engine.redis.hget(f"{{hongbao:{lane:03d}}}:lane", "epoch") for lane in engine.lanes}
    for lane in engine.lanes:
        await engine.store.fence(lane)
    sent = await send(engine, sender, **terms)
    for lane, epoch in epochs.items():
        await engine.redis.hset(f"{{hongbao:{lane:03d}}}:lane", "epoch", epoch)
    assert sent.state is PacketState.FUNDED
    assert await engine.store.states([sent.packet_id]) == [None]
    return sent.packet_id


@asynccontextmanager
async def persisting(settings: Settings) -> AsyncIterator[None]:
    """A persister at work in this process; it applies what is left before the block ends."""
    stop = asyncio.Event()
    task = asyncio.create_task(run_persister(settings, stop))
    try:
        yield
    finally:
        stop.set()
        await task


@asynccontextmanager
async def sweeping(settings: Settings) -> AsyncIterator[None]:
    """A sweeper and a publisher at work in this process."""
    stop = asyncio.Event()
    task = asyncio.create_task(run_sweeper(settings, stop))
    try:
        yield
    finally:
        stop.set()
        await task


@contextmanager
def persister_process(settings: Settings) -> Iterator[Forked]:
    """A persister as a process of its own, killed at the end of the block."""
    process = warm().start(_PERSIST, settings.model_dump_json())
    try:
        yield process
    finally:
        kill(process)


def kill(process: Forked) -> None:
    """SIGKILL, and wait for its end."""
    process.kill()
    process.join()


async def checkpoints(engine: Engine) -> dict[int, int]:
    """How far the ledger is in each lane."""
    return {row["lane"]: row["position"] for row in await engine.pool.fetch("SELECT lane, position FROM lanes")}


async def positions(engine: Engine) -> dict[int, int]:
    """How far Redis is in each lane."""
    statuses = {lane: await engine.store.lane_status(lane) for lane in engine.lanes}
    return {lane: status.position for lane, status in statuses.items() if status is not None}


async def lag(engine: Engine) -> int:
    """How many changes the ledger has not applied."""
    return sum((await positions(engine)).values()) - sum((await checkpoints(engine)).values())


async def caught_up(engine: Engine, timeout_s: float = 20.0) -> None:
    """Wait until the ledger has applied everything, and Redis has been told so."""

    async def is_done() -> bool:
        statuses = [await engine.store.lane_status(lane) for lane in engine.lanes]
        return all(status is not None and status.applied == status.position for status in statuses)

    await wait_until(is_done, timeout_s=timeout_s, what="the ledger's catching up")


async def is_settled(engine: Engine, packet_id: str) -> bool:
    """Whether the ledger has emptied the packet's custody after its end."""
    query = "SELECT settled_at_ms IS NOT NULL FROM packets WHERE packet_id = $1"
    return bool(await engine.pool.fetchval(query, int(packet_id)))


async def settled(engine: Engine, *packet_ids: str) -> None:
    """Wait until the ledger has settled the packets."""

    async def are_settled() -> bool:
        return all([await is_settled(engine, packet_id) for packet_id in packet_ids])

    await wait_until(are_settled, timeout_s=20, what=f"settling {packet_ids}")


async def claimed(pool: asyncpg.Pool, packet_id: str) -> dict[str, int]:
    """What each user has of a packet by the ledger."""
    rows = await pool.fetch(
        "SELECT owner, amount_fen FROM transfers JOIN accounts ON account_id = to_account "
        "WHERE transfers.kind = 'claim' AND from_account = $1",
        int(packet_id),
    )
    return {row["owner"]: row["amount_fen"] for row in rows}


async def wrong_accounts(source: asyncpg.Pool | asyncpg.Connection) -> list[Any]:
    """The accounts whose balance is not the sum of their transfers."""
    rows: list[Any] = await source.fetch(
        """
        WITH sums AS (
            SELECT account_id, sum(amount_fen) AS sum_fen FROM (
                SELECT to_account AS account_id, amount_fen FROM transfers
                UNION ALL SELECT from_account, -amount_fen FROM transfers
            ) AS sides GROUP BY account_id
        )
        SELECT account_id, balance_fen, sum_fen FROM accounts FULL JOIN sums USING (account_id)
        WHERE balance_fen IS DISTINCT FROM coalesce(sum_fen, 0)
        """
    )
    return rows


async def assert_books_balance(source: asyncpg.Pool | asyncpg.Connection) -> None:
    """Balances are the sums of their transfers, sum to zero, and no batch is missing between two others."""
    assert await wrong_accounts(source) == []
    assert await source.fetchval("SELECT sum(balance_fen) FROM accounts") == 0
    gaps = await source.fetch(
        """
        SELECT lane, position_before, expected FROM (
            SELECT lane, position_before, lag(position, 1, 0::bigint) OVER (PARTITION BY lane ORDER BY position)
                AS expected FROM batches
        ) AS joined WHERE position_before <> expected
        """
    )
    assert gaps == []
    behind = await source.fetch(
        "SELECT lane FROM lanes WHERE position <> coalesce((SELECT max(position) FROM batches "
        "WHERE batches.lane = lanes.lane), 0)"
    )
    assert behind == []


async def packet_keys(engine: Engine) -> dict[str, list[str]]:
    """Every Redis key of a packet, by packet."""
    found: dict[str, list[str]] = {}
    async for key in engine.redis.scan_iter(match="*:1?????????????????*", count=1_000):
        name = key.decode()
        found.setdefault(name.rpartition(":")[2], []).append(name)
    return found


async def assert_settled_keys_expire(engine: Engine) -> None:
    """A packet that the ledger has settled must not stay in Redis for good."""
    for packet_id, names in (await packet_keys(engine)).items():
        if await is_settled(engine, packet_id):
            for name in names:
                assert await engine.redis.pttl(name) > 0, f"{name} has no TTL though its packet is settled"


async def let_time_run_out(engine: Engine, *packet_ids: str) -> None:
    """Make the packets' time be over now, for the scripts and for the sweeper."""
    for packet_id in packet_ids:
        await command(engine.redis, "HSET", keys.packet(packet_id), "expires_at_ms", 1)
        await command(engine.redis, "ZADD", keys.due(lane_of(packet_id)), "XX", 1, packet_id)


async def waits_for_a_lock(engine: Engine) -> bool:
    """Whether anybody waits for a lock of Postgres."""
    return bool(await engine.pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))


async def followed_lanes(engine: Engine) -> int:
    """How many reads of a stream wait at Redis for something to come."""
    clients = (await command(engine.redis, "CLIENT", "LIST")).decode()
    return sum(" cmd=xread " in line and " flags=b" in line for line in clients.splitlines())
