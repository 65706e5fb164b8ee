"""Two Redis servers that share the lanes: 0 and 1 on the first, 2 and 3 on the second."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.engine import Engine
from engine.errors import HongbaoError
from engine.ids import lane_of
from engine.records import ClaimResult
from engine.settings import Settings
from tests.support.own_redis import OwnRedis, own_redis, valkey
from tests.support.scenes import changed, send

FIRST, SECOND = (0, 1), (2, 3)
TIMEOUT_S = 1.0
"""How long a request waits for a server."""


@dataclass(frozen=True, slots=True)
class Two:
    """The servers, and settings that name both."""

    first: OwnRedis
    second: OwnRedis
    settings: Settings


@asynccontextmanager
async def two_servers(settings: Settings, folder: Path, **options: str) -> AsyncIterator[Two]:
    """Both run at the beginning. ``options``: theirs, with ``_`` in place of ``-``."""
    with (
        own_redis(valkey(), folder / "first", **options) as first,
        own_redis(valkey(), folder / "second", **options) as second,
    ):
        await first.start()
        await second.start()
        url = f"0-1={first.url} 2-3={second.url}"
        yield Two(first, second, changed(settings, redis_url=url, lanes=4, redis_timeout_s=TIMEOUT_S))


async def one_in_each_lane(engine: Engine, *, count: int = 10, total_fen: int = 1_000) -> dict[int, str]:
    """Lane -> a packet in it."""
    found: dict[int, str] = {}
    while len(found) < len(engine.lanes):
        packet_id = (await send(engine, count=count, total_fen=total_fen)).packet_id
        found.setdefault(lane_of(packet_id), packet_id)
    return dict(sorted(found.items()))


async def answers(engine: Engine, packets: dict[int, str], user_id: str) -> dict[int, str]:
    """Lane -> the outcome of a claim there, or the error's code."""
    results = await engine.claims.claim_many([(packet_id, user_id) for packet_id in packets.values()])
    return {lane: _told(result) for lane, result in zip(packets, results, strict=True)}


def _told(result: ClaimResult | HongbaoError) -> str:
    return result.outcome.name.lower() if isinstance(result, ClaimResult) else result.code
