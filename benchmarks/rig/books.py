"""Checks the books after every run: ours with persister and audit, the peers' by comparing what they wrote."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import asyncpg
import uvloop
from redis import Redis

from benchmarks.rig.stage import Stage, wait
from benchmarks.rig.world import World
from engine.auditing.audit import audit
from engine.engine import Engine
from engine.lanes import keys
from engine.packets.split import split
from engine.records import SplitKind
from engine.running.processes import run_persister
from engine.settings import Settings

DRAIN_S_MAX = 180.0
_PAGE = 500


def ours(stage: Stage, database: str) -> list[str]:
    """Let a persister apply everything, then return the findings of the engine's own audit."""
    settings = stage.settings(database)
    uvloop.run(_drain(settings))
    return wait(_audit(settings))


def compare(stage: Stage, database: str) -> None:
    """Let a persister compare a newly started Redis with the ledger: no lane serves before that."""
    uvloop.run(_drain(stage.settings(database)))


async def _drain(settings: Settings) -> None:
    stop = asyncio.Event()
    stop.set()  # it applies everything and returns
    await asyncio.wait_for(run_persister(settings, stop), DRAIN_S_MAX)


async def _audit(settings: Settings) -> list[str]:
    async with Engine.open(settings) as engine:
        findings = await audit(engine.pool, engine.store, engine.stream)
    return [f"{f.statement}: {problem}" for f in findings for problem in f.problems]


def peers(stage: Stage, world_: World) -> list[str]:
    """Check that given and left shares are the world's shares, each once, and that each claim has its event."""
    problems: list[str] = []
    with stage.redis.client() as client:
        told = _events(client, world_)
        before = _shares_of(stage, world_)
        packets = (*world_.packets, world_.probe)
        for start in range(0, len(packets), _PAGE):
            problems += _page(client, packets[start : start + _PAGE], before, told)
    if told:
        problems.append(f"{sum(told.values())} events are about shares nobody has")
    return problems[:10]


def _page(client: Redis, packets: Sequence[str], before: dict[str, Counter[bytes]], told: Counter[Any]) -> list[str]:
    pipeline = client.pipeline(transaction=False)
    for packet in packets:
        pipeline.hgetall(keys.claims(packet))
        pipeline.lrange(keys.shares(packet), 0, -1)
    replies = iter(pipeline.execute())
    problems = []
    for packet in packets:
        claims, left = next(replies), next(replies)
        given = Counter(value.rpartition(b":")[0] for value in claims.values())
        if given + Counter(left) != before[packet]:
            problems.append(f"packet {packet}: given and left are not its shares")
        for user_id, value in claims.items():
            event = (packet.encode(), user_id, value.rpartition(b":")[0])
            if told.pop(event, 0) != 1:
                problems.append(f"packet {packet}: {user_id.decode()} has a share and not one event")
    return problems


def _events(client: Redis, world_: World) -> Counter[tuple[bytes, bytes, bytes]]:
    """How often each claim is in the streams."""
    told: Counter[tuple[bytes, bytes, bytes]] = Counter()
    for lane in world_.lanes:
        after = "-"
        while page := _entries(client, keys.events(lane), after):
            told.update((fields[b"packet"], fields[b"user"], fields[b"share"]) for _, fields in page)
            after = "(" + page[-1][0].decode()
    return told


def _entries(client: Redis, stream: str, after: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
    found: Any = client.xrange(stream, after, "+", count=10_000)  # typed too loosely to be of use
    return list(found)


def _shares_of(stage: Stage, world_: World) -> dict[str, Counter[bytes]]:
    """Each packet's shares from its seed in the ledger. They are computed once per world."""
    if world_.database not in _KNOWN:
        _KNOWN[world_.database] = wait(_splits(stage.database_url(world_.database)))
    return _KNOWN[world_.database]


_KNOWN: dict[str, dict[str, Counter[bytes]]] = {}


async def _splits(database_url: str) -> dict[str, Counter[bytes]]:
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("SELECT packet_id, split, total_fen, count, min_fen, max_fen, seed FROM packets")
    finally:
        await connection.close()
    shares = {}
    for row in rows:
        amounts = split(
            SplitKind(row["split"]), *(row[n] for n in ("total_fen", "count", "min_fen", "max_fen", "seed"))
        )
        shares[str(row["packet_id"])] = Counter(b"%d:%d" % pair for pair in enumerate(amounts.tolist()))
    return shares


def on_postgres(stage: Stage, database: str) -> list[str]:
    """Check that every claimed share is in a wallet and nowhere else."""
    return wait(_compare_wallets(stage.database_url(database)))


async def _compare_wallets(database_url: str) -> list[str]:
    connection = await asyncpg.connect(database_url)
    try:
        wrong = await connection.fetchval(
            """
            SELECT count(*)
            FROM (SELECT user_id, sum(amount_fen) AS fen FROM shares WHERE user_id IS NOT NULL GROUP BY 1) AS given
            FULL JOIN wallets USING (user_id) WHERE fen IS DISTINCT FROM balance_fen
            """
        )
    finally:
        await connection.close()
    return [f"{wrong} wallets do not hold what their users were given"] if wrong else []
