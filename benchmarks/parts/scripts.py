"""The scripts' cost in Redis: ``python -m benchmarks.parts.scripts``.

Prints the server's own CPU time (user and system, all threads) per claim, for several sizes of calls and packets, if
every claim wins. Then prints the longest call that opens or closes a packet of a million shares. Uses ``redis-server``
from PATH, otherwise the embedded server, and one client on the same machine over a unix socket.
"""

import asyncio
import dataclasses
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis.asyncio import Redis

from engine.embedded import servers
from engine.embedded.servers import EmbeddedRedis
from engine.ids import new_packet_number
from engine.lanes.clients import command, redis_client
from engine.lanes.replies import CloseReason
from engine.lanes.store import Chunk, Store
from engine.lanes.topology import Topology
from engine.supervision.child import Command

LANE, EPOCH = 0, "benchmark"
FAR_FUTURE_MS = 4_000_000_000_000
BACKLOG_MAX = 10**12
CLAIMS_PER_CALL = (1, 10, 100, 500)
HANDS = (1, 10, 100, 5_000)
CLAIMS, CLAIMS_ONE_BY_ONE, ROUNDS = 5_000, 2_000, 3
MILLION, SHARES_PER_CALL = 1_000_000, 5_000


class PathRedis(EmbeddedRedis):
    """The engine's private server with the same settings, but with ``redis-server`` from PATH if there is one."""

    def command(self) -> Command:
        """The command, as for the embedded server."""
        usual, found = super().command(), shutil.which("redis-server")
        return dataclasses.replace(usual, argv=(found, *usual.argv[1:])) if found else usual


@contextmanager
def server(appendonly: str) -> Iterator[PathRedis]:
    """A temporary server."""
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        with servers.hold(data_dir) as held:
            running = PathRedis(held, options={"appendonly": appendonly})
            running.start()
            try:
                yield running
            finally:
                running.stop()
        servers.remove(data_dir)


async def begin(client: Redis) -> Store:
    """An emptied server with one lane."""
    await command(client, "FLUSHALL", "SYNC")
    store = Store(Topology.of_one(client), {LANE: EPOCH})
    await store.begin_lane(LANE, EPOCH)
    return store


def chunk(packet_id: str, count: int, first: int, size: int) -> Chunk:
    """Shares ``first`` to ``first + size - 1`` of a packet of 1 yuan each."""
    return Chunk(
        packet_id=packet_id,
        offset=first,
        count=count,
        total_fen=count * 100,
        expires_at_ms=FAR_FUTURE_MS,
        luckiest_share="0:100",
        arrives_at_ms=None,
        ack=None,
        recipients=(),
        shares=[f"{slot}:100" for slot in range(first, first + size)],
    )


async def cpu_us(client: Redis) -> float:
    """All CPU time that the server has used."""
    info = await client.info("cpu")
    return (float(info["used_cpu_user"]) + float(info["used_cpu_sys"])) * 1e6


async def claim_cpu_us(client: Redis, per_call: int, hands: int) -> float:
    """The server's CPU time per claim, in calls of ``per_call`` claims on packets with ``hands`` shares each."""
    store = await begin(client)
    claims = CLAIMS if per_call > 1 else CLAIMS_ONE_BY_ONE
    packets = [new_packet_number(LANE) for _ in range(-(-claims // hands))]
    for packet_id in packets:
        await store.open(chunk(packet_id, hands, 0, hands), not_after_ms=FAR_FUTURE_MS)
    asked = [(packets[place // hands], f"user-{place:08d}") for place in range(claims)]
    started_us = await cpu_us(client)
    for start in range(0, claims, per_call):
        call: dict[str, list[str]] = {}
        for packet_id, user_id in asked[start : start + per_call]:
            call.setdefault(packet_id, []).append(user_id)
        reply = await store.claim(LANE, call, backlog_max=BACKLOG_MAX)
        if any(result.outcome != "C" for result in reply.results):
            raise RuntimeError("a claim did not win")
    return (await cpu_us(client) - started_us) / claims


async def million_ms(client: Redis) -> tuple[list[float], float]:
    """The server's time for each call that opens a packet of a million shares, and for the call that closes it."""
    store, packet_id = await begin(client), new_packet_number(LANE)
    await command(client, "CONFIG", "SET", "slowlog-log-slower-than", 0)
    await command(client, "CONFIG", "SET", "slowlog-max-len", 10_000)
    await command(client, "SLOWLOG", "RESET")
    for first in range(0, MILLION, SHARES_PER_CALL):
        await store.open(chunk(packet_id, MILLION, first, SHARES_PER_CALL), not_after_ms=FAR_FUTURE_MS)
    opening = await script_calls_ms(client)
    await command(client, "SLOWLOG", "RESET")
    await store.close(packet_id, CloseReason.RETRACTED)
    return opening, max(await script_calls_ms(client))


async def script_calls_ms(client: Redis) -> list[float]:
    """The server's time for each script call since the slow log was emptied."""
    entries = await client.slowlog_get(10_000)
    return [entry["duration"] / 1000 for entry in entries if entry["command"].startswith(b"EVAL")]


async def report(url: str, appendonly: str) -> None:
    """Print one server's table."""
    async with redis_client(url, connections_max=4, timeout_s=30.0) as client:
        version = (await client.info("server"))["redis_version"]
        print(f"\nRedis {version}, append-only file {appendonly}: CPU us per claim (least of {ROUNDS})")
        print(f"{'claimants per packet':>20} " + "".join(f"{f'{size} per call':>13}" for size in CLAIMS_PER_CALL))
        for hands in HANDS:
            # Other programs can only add to it (caches, page faults), so the smallest value is the most accurate.
            costs = [min([await claim_cpu_us(client, size, hands) for _ in range(ROUNDS)]) for size in CLAIMS_PER_CALL]
            print(f"{hands:>20,} " + "".join(f"{cost:>13.2f}" for cost in costs), flush=True)
        opening, closing = await million_ms(client)
        print(
            f"{MILLION:,} shares: {len(opening)} open calls of {SHARES_PER_CALL:,}, median "
            f"{statistics.median(opening):.2f} ms, longest {max(opening):.2f} ms; close {closing:.3f} ms"
        )


def main() -> None:
    """Measure without the append-only file, then with it, as in the engine's own server."""
    for appendonly in ("no", "yes"):
        with server(appendonly) as running:
            asyncio.run(report(running.url, appendonly))


if __name__ == "__main__":
    main()
