"""Workload F: the persister alone on full streams, compared with a bare COPY of the same rows to the same table."""

import io
import time
from collections.abc import Callable, Iterator, Sequence

import asyncpg
import orjson

from benchmarks.rig import books, processes
from benchmarks.rig import world as worlds
from benchmarks.rig.bench import Bench
from benchmarks.rig.cpu import Meter
from benchmarks.rig.runs import FAILURES, BooksWrongError, Run
from benchmarks.rig.servers import OURS, started
from benchmarks.rig.stage import Stage, wait
from benchmarks.rig.walks import BatchWalk
from benchmarks.rig.world import World, positions
from engine.supervision.child import Process

SEVERAL = (1, 2)
_POLL_S = 0.002
_REQUEST = 500


def persister_alone(bench: Bench) -> None:
    """Fill the streams once. Then, in each round, persist them and copy the same rows bare."""
    stage = bench.stage
    world = bench.world("to persist", packets=-(-bench.plan.persisted_claims // 100), shares=100)
    filled = fill_streams(stage, world, bench.plan.persisted_claims)
    try:
        for number in range(1, bench.plan.costly_rounds + 1):
            try:
                done = _round(stage, filled)
                bench.keep({"workload": "F", "server": "hongbao", "round": number, "connections": 0, **done})
            except FAILURES as error:
                why = f"{type(error).__name__}: {error}"
                bench.keep({"workload": "F", "server": "hongbao", "round": number, "connections": 0, "void": why})
            finally:
                stage.redis.stop()
    finally:
        stage.drop_database(filled.database)


def several(bench: Bench) -> None:
    """The same streams in two lanes, by one persister and by two that share the lanes."""
    stage = bench.stage
    packets = -(-bench.plan.persisted_claims // 100)
    world = worlds.build(stage, "two lanes to persist", packets=packets, shares=100, lanes=2)
    filled = fill_streams(stage, world, bench.plan.persisted_claims)
    try:
        for number in range(1, bench.plan.costly_rounds + 1):
            for count in SEVERAL if number % 2 else SEVERAL[::-1]:
                about = {"workload": by_several(count), "server": "hongbao", "round": number, "connections": 0}
                try:
                    bench.keep({**about, **_persisted(stage, filled, count), "void": None})
                except FAILURES as error:
                    bench.keep({**about, "void": f"{type(error).__name__}: {error}"})
                finally:
                    stage.redis.stop()
    finally:
        stage.drop_database(filled.database)


def by_several(count: int) -> str:
    """The name of the runs with so many persisters."""
    return f"F, {count} of 2 lanes"


def _persisted(stage: Stage, filled: World, count: int) -> Run:
    stage.redis.start(filled.snapshot)
    database = stage.create_database(filled.database)
    try:
        done = persist(stage, filled, database, count)
        if problems := books.ours(stage, database):
            raise BooksWrongError("; ".join(problems))
        return done
    finally:
        stage.drop_database(database)


def fill_streams(stage: Stage, world: World, claims: int) -> World:
    """A world whose first ``claims`` claims wait in the streams. They are sent over HTTP without a persister."""
    stage.redis.start(world.snapshot)
    database = stage.create_database(world.database)
    books.compare(stage, database)
    walk = BatchWalk(packets=world.packets, hands=100, size=_REQUEST, hands_each=100)
    headers = {"Authorization": f"Bearer {stage.token}", "Content-Type": "application/json"}
    with started(stage, OURS, database) as server:
        for index in range(min(walk.length, claims // _REQUEST)):
            status, answer = server.post("/v1/claims", headers, walk.body(index))
            if status != 200 or any(result.get("outcome") != "claimed" for result in orjson.loads(answer)["results"]):
                raise BooksWrongError(f"a claim did not win while the streams were filled: {answer[:200]!r}")
    snapshot = stage.folder / f"{world.snapshot.stem}-filled.rdb"
    stage.redis.save(snapshot)
    stage.redis.stop()
    return World(packets=world.packets, shares=world.shares, probe=world.probe, snapshot=snapshot, database=database)


def _round(stage: Stage, filled: World) -> Run:
    stage.redis.start(filled.snapshot)
    database = stage.create_database(filled.database)
    other = stage.create_database(filled.database)
    try:
        done = persist(stage, filled, database)
        if problems := books.ours(stage, database):
            raise BooksWrongError("; ".join(problems))
        chunks = wait(_rows(stage.database_url(database)))
        copied_s = wait(_copy(stage.database_url(other), chunks))
        rows = done["rows"]
        return {
            **done,
            "copy_per_s": rows / copied_s,
            "share_of_copy": done["durable_per_s"] * copied_s / rows,
            "transactions": len(chunks.parts),
            "void": None,
        }
    finally:
        stage.drop_database(database)
        stage.drop_database(other)


def persist(stage: Stage, filled: World, database: str, count: int = 1) -> Run:
    """Run `hongbao persist`, or several of them, until the streams are empty.

    The clock runs from its first commit to its last, and the first commit's changes do not count: starting Python is
    not persisting. The CPU time includes the start.
    """
    meter = Meter({"postgres": [stage.postgres_process.pid], "redis": [stage.redis.pid]})
    variables, folder = stage.variables(database), stage.folder
    shares = [("--share", f"{number}/{count}") for number in range(1, count + 1)]
    persisters = [processes.hongbao("persist", *share, variables=variables, cwd=folder) for share in shares]
    tree = Meter({"persist": [persister.pid for persister in persisters]})
    try:
        with stage.redis.client() as client:
            emitted, before = positions(client, filled.lanes)
            _wait_for(lambda: positions(client, filled.lanes)[1] > before, persisters)
            first, began_s = positions(client, filled.lanes)[1], time.perf_counter()
            _wait_for(lambda: positions(client, filled.lanes)[1] == emitted, persisters)
            took_s = time.perf_counter() - began_s
        cpu_s = meter.stop(persist=tree.stop()["persist"])
    finally:
        for persister in persisters:
            processes.stop(persister)
    rows = emitted - before
    if first == emitted:
        raise BooksWrongError("one transaction took everything: nothing is left to measure")
    return {
        "rows": rows,
        "durable_per_s": (emitted - first) / took_s,
        "cpu_us_per_answer": {name: used / rows * 1e6 for name, used in cpu_s.items()},
    }


def _wait_for(ready: Callable[[], bool], persisters: Sequence[Process]) -> None:
    while not ready():
        for persister in persisters:
            if persister.exit_code() is not None:
                raise processes.NotStartedError(f"a persister ended: {persister.complaint()}")
        time.sleep(_POLL_S)


class _Chunks:
    """Rows in Postgres's binary format, one part per transaction of the persister."""

    def __init__(self, columns: Sequence[str], parts: Sequence[bytes]) -> None:
        self.columns, self.parts = columns, parts

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the parts."""
        return iter(self.parts)


async def _rows(database_url: str) -> _Chunks:
    """The ledger's rows of claims, in as many equal parts as the persister made transactions."""
    connection = await asyncpg.connect(database_url)
    try:
        names = await connection.fetch(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'transfers'"
            " AND is_identity = 'NO' AND is_generated = 'NEVER' ORDER BY ordinal_position"
        )
        columns = [row["column_name"] for row in names]
        transactions = await connection.fetchval("SELECT count(*) FROM batches WHERE claims > 0")
        rows = await connection.fetchval("SELECT count(*) FROM transfers WHERE kind = 'claim'")
        size, parts = -(-rows // transactions), []
        select = f"SELECT {', '.join(columns)} FROM transfers WHERE kind = 'claim' ORDER BY transfer_id"
        for offset in range(0, rows, size):
            part = io.BytesIO()
            query = f"{select} LIMIT {size} OFFSET {offset}"
            await connection.copy_from_query(query, output=part, format="binary")
            parts.append(part.getvalue())
    finally:
        await connection.close()
    return _Chunks(columns, parts)


async def _copy(database_url: str, chunks: _Chunks) -> float:
    """COPY the parts, with one commit per part. Returns the seconds it took."""
    connection = await asyncpg.connect(database_url)
    try:
        started_s = time.perf_counter()
        for part in chunks:
            await connection.copy_to_table(
                "transfers", source=io.BytesIO(part), columns=chunks.columns, format="binary"
            )
        return time.perf_counter() - started_s
    finally:
        await connection.close()
