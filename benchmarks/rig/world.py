"""The packets of a workload. The engine makes them once, and every run of every server uses them.

They are sent and opened like any packet, and their openings are applied to the ledger. Then Redis's data is kept as a
snapshot and the database as a template. So every run starts from the same bytes, and its books can be audited.
"""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from benchmarks.rig.stage import Stage, wait
from engine.engine import Engine
from engine.ids import lane_of
from engine.lanes import keys
from engine.ledger import schema
from engine.packets.opening import publish_once
from engine.records import SplitKind, Terms
from engine.running.processes import run_persister
from engine.settings import Settings

SHARE_FEN_MEAN = 1_000
PROBE_SHARES = 2
_SENDER = "sender"
_SENDERS_AT_ONCE = 4
_DRAIN_S_MAX = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """``packets`` have ``shares`` each. ``probe``: one more packet of two shares, to check a server's answers."""

    packets: tuple[str, ...]
    shares: int
    probe: str
    snapshot: Path
    database: str

    @property
    def lanes(self) -> Sequence[int]:
        """The lanes of its packets."""
        return sorted({lane_of(packet) for packet in (*self.packets, self.probe)})


def build(stage: Stage, name: str, *, packets: int, shares: int, lanes: int = 1) -> World:
    """Make a world. Leaves Redis stopped."""
    stage.redis.start(None)
    database = stage.create_database()
    settings = stage.settings(database, lanes=lanes)
    wait(schema.migrate(stage.database_url(database)))
    *made, probe = wait(fill(settings, packets, shares))
    snapshot = stage.folder / f"{name.replace(' ', '-')}.rdb"
    stage.redis.save(snapshot)
    stage.redis.stop()
    return World(packets=tuple(made), shares=shares, probe=probe, snapshot=snapshot, database=database)


async def fill(settings: Settings, packets: int, shares: int) -> list[str]:
    """Send the packets and one probe, its number last, and let the ledger have their openings."""
    async with Engine.open(settings) as engine:
        total_fen = packets * shares * SHARE_FEN_MEAN + PROBE_SHARES * SHARE_FEN_MEAN
        await engine.wallets.deposit(_SENDER, total_fen, idempotency_key="fund", request_hash=b"fund")
        numbers = itertools.count()
        sent: list[str] = []

        async def send() -> None:
            while (number := next(numbers)) < packets:
                sent.append(await _send(engine, f"packet-{number}", shares))  # in any order

        await asyncio.gather(*(send() for _ in range(_SENDERS_AT_ONCE)))
        sent.append(await _send(engine, "probe", PROBE_SHARES))
        await publish_once(engine.pool, engine.store)  # packets that are too large to be opened at sending
    stop = asyncio.Event()
    persisting = asyncio.create_task(run_persister(settings, stop))
    stop.set()  # it applies everything and returns
    await asyncio.wait_for(persisting, _DRAIN_S_MAX)
    return sent


async def _send(engine: Engine, key: str, shares: int) -> str:
    terms = Terms(
        total_fen=shares * SHARE_FEN_MEAN,
        count=shares,
        split=SplitKind.LUCKY,
        min_fen=1,
        max_fen=20_000,
        ttl_s=86_400,
        greeting="",
        recipients=(),
    )
    sent = await engine.packets.send(_SENDER, terms, idempotency_key=key, request_hash=b"terms")
    return sent.packet_id


def claims_held(client: Redis, packets: Sequence[str]) -> int:
    """How many claims Redis holds of some packets."""
    pipeline = client.pipeline(transaction=False)
    for packet in packets:
        pipeline.hlen(keys.claims(packet))
    return sum(pipeline.execute())


def positions(client: Redis, lanes: Sequence[int]) -> tuple[int, int]:
    """How many changes the lanes have emitted, and how many of them the ledger has."""
    pipeline = client.pipeline(transaction=False)
    for lane in lanes:
        pipeline.hmget(keys.lane(lane), "position", "applied")
    numbers = [(int(position or 0), int(applied or 0)) for position, applied in pipeline.execute()]
    return sum(position for position, _ in numbers), sum(applied for _, applied in numbers)
