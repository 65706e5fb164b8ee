"""Bytes of packets and claims: in Redis, in the ledger, in both servers' logs, and between the processes.

They do not depend on the machine's speed, so each is measured once. Everything happens live: packets are sent, all of
their shares are claimed, and only then a persister carries the claims into the ledger. So each growth has one cause.
"""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import asyncpg
import orjson
from redis import Redis

from benchmarks.parts import scripts
from benchmarks.parts.acks import replica
from benchmarks.rig import books, processes, world, wrk
from benchmarks.rig.bench import Bench
from benchmarks.rig.counting import counting
from benchmarks.rig.http_connection import missing
from benchmarks.rig.runs import BooksWrongError
from benchmarks.rig.servers import OURS, Started, started
from benchmarks.rig.shapes import Shape
from benchmarks.rig.stage import Stage, wait
from benchmarks.rig.walks import POPULATION, BatchWalk, Walk, claim_lua, user
from benchmarks.rig.world import positions
from engine.embedded import data_dir
from engine.ids import lane_of
from engine.lanes import keys
from engine.lanes.clients import redis_client
from engine.ledger import schema

SHARES = (10, 100, 1_000)
CLAIMS = 2 * POPULATION
CALLS = (1, 2, 5, 10, 25, 50, 100, 500)
_HANDS = 100
_REQUEST = 500
_CONNECTIONS, _SECONDS = 256, 2
_SINGLE_SHARES, _SINGLE_PACKETS = 100, 2_500
_ROUNDS = 3
_DRAIN_S_MAX = 120.0
_POSTGRES_SOCKET = ".s.PGSQL.5432"
_SIZES = """
SELECT
    (SELECT sum(pg_table_size(relid)) FROM pg_partition_tree('transfers'))::bigint AS entries,
    (SELECT sum(pg_indexes_size(relid)) FROM pg_partition_tree('transfers'))::bigint AS entry_indexes,
    pg_total_relation_size('accounts') AS accounts, pg_total_relation_size('packets') AS packets,
    (SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables) AS whole,
    (SELECT count(*) FROM accounts WHERE kind = 'wallet') AS wallets,
    pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') AS wal, (SELECT wal_fpi FROM pg_stat_wal) AS wal_pages
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Totals at one moment, in bytes; ``ledger_wallets`` and ``ledger_wal_pages`` are counts."""

    redis_data: int
    redis_append_only_file: int
    redis_received: int
    redis_sent: int
    redis_to_replica: int
    ledger_entries: int
    ledger_entry_indexes: int
    ledger_accounts: int
    ledger_packets: int
    ledger_whole: int
    ledger_wallets: int
    ledger_wal: int
    ledger_wal_pages: int

    def since(self, before: "Look") -> dict[str, int]:
        """How much each has grown."""
        then = asdict(before)
        return {name: value - then[name] for name, value in asdict(self).items()}


def sizes(bench: Bench) -> None:
    """Measure packets of each size, then single requests, then script calls of each size."""
    found: dict[str, Any] = {"packets": [], "claims": CLAIMS}
    bench.others["sizes"] = found
    try:
        for shares in SHARES:
            found["packets"].append(_packets(bench.stage, CLAIMS // shares, shares))
            bench.say(f"SIZES          {found['packets'][-1]}")
        found["requests"] = _requests(bench.stage)
        bench.say(f"SIZES          {found['requests']}")
    finally:
        bench.stage.redis.stop()
    with scripts.server("yes") as running:
        found["calls"] = {str(size): us for size, us in zip(CALLS, asyncio.run(_calls(running.url)), strict=True)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """Packets in Redis and in a ledger that were empty ``before``."""

    stage: Stage
    client: Redis
    database: str
    before: Look
    packets: list[str]

    def look(self) -> Look:
        """The totals now."""
        return _look(self.client, self.stage, self.database)

    @property
    def lanes(self) -> list[int]:
        """The packets' lanes."""
        return sorted({lane_of(packet) for packet in self.packets})


@contextmanager
def _ready(stage: Stage, packets: int, shares: int) -> Iterator[_Scene]:
    """Put packets into an empty Redis, with a replica, and into an empty ledger."""
    stage.redis.start(None, appendfsync="everysec")
    database = stage.create_database()
    try:
        wait(schema.migrate(stage.database_url(database)))
        with stage.redis.client() as client, replica(stage, wanted=True):
            client.config_set("auto-aof-rewrite-percentage", 0)
            before = _look(client, stage, database)
            *made, _ = wait(world.fill(stage.settings(database), packets, shares))
            yield _Scene(stage=stage, client=client, database=database, before=before, packets=made)
    finally:
        stage.drop_database(database)
        stage.redis.stop()


def _packets(stage: Stage, packets: int, shares: int) -> dict[str, Any]:
    """Claim each share: the first half by users without a wallet, the second by the same users once more."""
    with _ready(stage, packets, shares) as scene:
        sent = scene.look()
        walk = BatchWalk(packets=scene.packets, hands=shares, size=_REQUEST, hands_each=min(shares, _REQUEST))
        middle, claims = walk.length // 2, walk.length * _REQUEST
        if claims != packets * shares or middle * _REQUEST != walk.population:
            raise BooksWrongError("the walk does not claim every share, or does not meet each user twice")
        bodies = [walk.body(index) for index in range(walk.length)]
        with started(stage, OURS, scene.database) as server:
            halves = [_half(scene, server, part) for part in (bodies[:middle], bodies[middle:])]
            settled = scene.look()
        if problems := books.ours(stage, scene.database):
            raise BooksWrongError("; ".join(problems))
    return {
        "shares": shares,
        "packets": packets,
        "claims": claims,
        "sending": sent.since(scene.before),
        "new_users": halves[0],
        "known_users": halves[1],
        "settled_redis_data": settled.redis_data - scene.before.redis_data,
    }


def _half(scene: _Scene, server: Started, bodies: Sequence[bytes]) -> dict[str, Any]:
    """Claim, and then book what was claimed."""
    began = scene.look()
    _claim_all(scene.stage, server, bodies)
    claimed = scene.look()
    stream = sum(int(scene.client.memory_usage(keys.events(lane), samples=0) or 0) for lane in scene.lanes)
    sent_bytes, received_bytes = _persist(scene)
    booking = scene.look().since(claimed)
    return {
        "claiming": claimed.since(began),
        "redis_stream": stream,
        "booking": {**booking, "to_ledger": sent_bytes, "from_ledger": received_bytes},
    }


def _claim_all(stage: Stage, server: Started, bodies: Sequence[bytes]) -> None:
    headers = {"Authorization": f"Bearer {stage.token}", "Content-Type": "application/json"}
    for body in bodies:
        status, answer = server.post("/v1/claims", headers, body)
        if status != 200 or any(result.get("outcome") != "claimed" for result in orjson.loads(answer)["results"]):
            raise BooksWrongError(f"a claim did not win: {answer[:200]!r}")


def _persist(scene: _Scene) -> tuple[int, int]:
    """Run a persister until the stream is empty. Returns the bytes to and from Postgres."""
    upstream = data_dir.postgres_socket_dir(scene.stage.folder / "data") / _POSTGRES_SOCKET
    with counting(upstream) as counted:
        url = f"postgresql://postgres@127.0.0.1:{counted.port}/{scene.database}?sslmode=disable"
        variables = {**scene.stage.variables(scene.database), "HONGBAO_DATABASE_URL": url}
        persister = processes.hongbao("persist", variables=variables, cwd=scene.stage.folder)
        try:
            processes.wait_until("the ledger", persister, lambda: _is_drained(scene), _DRAIN_S_MAX)
        finally:
            processes.stop(persister)
    return counted.sent_bytes, counted.received_bytes


def _is_drained(scene: _Scene) -> bool:
    position, applied = positions(scene.client, scene.lanes)
    return position == applied


def _look(client: Redis, stage: Stage, database: str) -> Look:
    info = client.info("everything")
    kept_for_clients = ("mem_clients_normal", "mem_clients_slaves", "mem_replication_backlog", "mem_aof_buffer")
    ledger = wait(_ledger(stage.database_url(database)))
    return Look(
        redis_data=info["used_memory"] - sum(info[name] for name in kept_for_clients),
        redis_append_only_file=info["aof_current_size"],
        redis_received=info["total_net_input_bytes"],
        redis_sent=info["total_net_output_bytes"],
        redis_to_replica=info["total_net_repl_output_bytes"],
        **{f"ledger_{name}": int(value) for name, value in ledger.items()},
    )


async def _ledger(database_url: str) -> dict[str, Any]:
    connection = await asyncpg.connect(database_url)
    try:
        (row,) = await connection.fetch(_SIZES)
        return dict(row)
    finally:
        await connection.close()


def _requests(stage: Stage) -> dict[str, Any]:
    """One claim per request and 500 per request: bytes of both, and of what the API and Redis say to each other."""
    with _ready(stage, _SINGLE_PACKETS, _SINGLE_SHARES) as scene:
        single, batch, rest = scene.packets[0], scene.packets[1:6], scene.packets[6:]
        end, client = len(rest) * _SINGLE_SHARES, scene.client
        with started(stage, OURS, scene.database) as server:
            up, down = _exchange(server.port, single, stage.token)
            walk = BatchWalk(packets=batch, hands=_SINGLE_SHARES, size=_REQUEST, hands_each=_SINGLE_SHARES)
            headers = {"Authorization": f"Bearer {stage.token}", "Content-Type": "application/json"}
            _, answer = server.post("/v1/claims", headers, walk.body(0))
            calls, before = _calls_made(client), scene.look()
            script = claim_lua(Walk(packets=rest, hands=_SINGLE_SHARES, end=end), stage.token, Shape.BARE)
            wrk.run(server.base_url, script, connections=_CONNECTIONS, duration_s=_SECONDS)
            after = scene.look().since(before)
            held, calls = world.claims_held(client, rest), _calls_made(client) - calls
    if held == end:
        raise BooksWrongError("the walk ran out of shares")
    passed = ("redis_received", "redis_sent", "redis_to_replica")
    return {
        "request_bytes": up,
        "answer_bytes": down,
        "batch_request_bytes": len(walk.body(0)) / _REQUEST,
        "batch_answer_bytes": len(answer) / _REQUEST,
        "claims_per_call": held / calls,
        **{f"{name}_bytes": after[name] / held for name in passed},
    }


def _exchange(port: int, packet: str, token: str) -> tuple[int, int]:
    """One claim in the words of workload A. Returns the bytes of request and answer."""
    request = (
        f"POST /v1/packets/{packet}/claims HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"X-User-Id: {user(0, 1)}\r\nContent-Length: 0\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        answer = connection.recv(65_536)
        while missing(answer) != 0:
            answer += connection.recv(65_536)
    if b'"claimed"' not in answer:
        raise BooksWrongError(f"a claim did not win: {answer!r}")
    return len(request), len(answer)


def _calls_made(client: Redis) -> int:
    return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])


async def _calls(url: str) -> list[float]:
    """Redis's CPU time per claim by the size of a call, all claimants of a call in packets of 100 shares."""
    async with redis_client(url, connections_max=4, timeout_s=30.0) as client:
        return [min([await scripts.claim_cpu_us(client, size, _HANDS) for _ in range(_ROUNDS)]) for size in CALLS]
