"""Workload F: the persister alone on full streams, compared with a bare COPY of the same rows to the same table.

The persister runs already when the claims come in, but the ledger makes it wait: another transaction has locked its
lane. So neither the start of Python counts nor the comparison of a Redis that was started anew.
"""

import asyncio
import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

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
SMALL = "F, packets of 10"
"""The runs with the packets of a group: ten times as many of them end."""
_POLL_S = 0.002
_REQUEST, _SHARES, _SMALL_SHARES = 500, 100, 10


def persister_alone(bench: Bench) -> None:
    """In each round, fill the stream, persist it, and copy the same rows bare. First large packets, then small ones."""
    plan = bench.plan
    world = bench.world("to persist", packets=packets_for(bench), shares=_SHARES)
    _rounds(bench, "F", world, plan.persisted_claims, plan.costly_rounds)
    if plan.persisted_small_claims:
        packets = -(-plan.persisted_small_claims // _SMALL_SHARES)
        world = bench.world("small ones to persist", packets=packets, shares=_SMALL_SHARES)
        _rounds(bench, SMALL, world, plan.persisted_small_claims, min(plan.costly_rounds, plan.scattered_rounds))


def _rounds(bench: Bench, workload: str, world: World, claims: int, rounds: int) -> None:
    for number in range(1, rounds + 1):
        about = {"workload": workload, "server": "hongbao", "round": number, "connections": 0}
        try:
            bench.keep({**about, **_round(bench.stage, world, claims)})
        except FAILURES as error:
            bench.keep({**about, "void": f"{type(error).__name__}: {error}"})


def packets_for(bench: Bench) -> int:
    """As many packets as the plan's claims need."""
    return -(-bench.plan.persisted_claims // _SHARES)


def several(bench: Bench) -> None:
    """As many claims in two lanes, by one persister and by two that share the lanes."""
    stage, claims = bench.stage, bench.plan.persisted_claims
    world = worlds.build(stage, "two lanes to persist", packets=packets_for(bench), shares=_SHARES, lanes=2)
    for number in range(1, bench.plan.costly_rounds + 1):
        for count in SEVERAL if number % 2 else SEVERAL[::-1]:
            about = {"workload": by_several(count), "server": "hongbao", "round": number, "connections": 0}
            try:
                with persisted(stage, world, claims, count) as (done, _):
                    pass
                bench.keep({**about, **done, "void": None})
            except FAILURES as error:
                bench.keep({**about, "void": f"{type(error).__name__}: {error}"})


def by_several(count: int) -> str:
    """The name of the runs with so many persisters."""
    return f"F, {count} of 2 lanes"


def _round(stage: Stage, world: World, claims: int) -> Run:
    with persisted(stage, world, claims) as (done, database), ExitStack() as stack:
        chunks = wait(_rows(stage.database_url(database)))
        if len(chunks.parts) < 2:
            raise BooksWrongError("one transaction took everything: that is no rate")
        other = stage.create_database(world.database)
        stack.callback(stage.drop_database, other)
        copied_s = wait(_copy(stage.database_url(other), chunks))
        return {
            **done,
            "copy_per_s": done["rows"] / copied_s,
            "share_of_copy": done["durable_per_s"] * copied_s / done["rows"],
            "transactions": len(chunks.parts),
            "void": None,
        }


@contextmanager
def persisted(
    stage: Stage, world: World, claims: int, count: int = 1, *, audited: bool = True
) -> Iterator[tuple[Run, str]]:
    """Have `hongbao persist`, or several of them, take a world's first ``claims`` claims into a copy of its ledger.

    Yields the figures, and the database, which is gone after the block. Raises one of FAILURES.
    """
    stage.redis.start(world.snapshot)
    database = stage.create_database(world.database)
    try:
        done = _persist(stage, world, database, claims, count)
        if audited and (problems := books.ours(stage, database)):
            raise BooksWrongError("; ".join(problems))
        yield done, database
    finally:
        stage.drop_database(database)
        stage.redis.stop()


def _persist(stage: Stage, world: World, database: str, claims: int, count: int) -> Run:
    """Rate and CPU time are from the moment when the ledger lets them go on until they have applied everything."""
    variables, folder = stage.variables(database), stage.folder
    shares = [("--share", f"{number}/{count}") for number in range(1, count + 1)]
    persisters = [processes.hongbao("persist", *share, variables=variables, cwd=folder) for share in shares]
    try:
        for persister in persisters:
            processes.settle(persister)
        with _held(stage.database_url(database)) as let_go, stage.redis.client() as client:
            _claim(stage, world, database, claims)
            emitted, before = positions(client, world.lanes)
            trees = {"postgres": [stage.postgres_process.pid], "redis": [stage.redis.pid]}
            meter = Meter(trees | {"persist": [persister.pid for persister in persisters]})
            began_s = time.perf_counter()
            let_go()
            _wait_for(lambda: positions(client, world.lanes)[1] == emitted, persisters)
            took_s, cpu_s = time.perf_counter() - began_s, meter.stop()
    finally:
        for persister in persisters:
            processes.stop(persister)
    rows = emitted - before
    return {
        "rows": rows,
        "durable_per_s": rows / took_s,
        "cpu_us_per_answer": {name: used_s / rows * 1e6 for name, used_s in cpu_s.items()},
    }


@contextmanager
def _held(database_url: str) -> Iterator[Callable[[], None]]:
    """No persister can commit in the block before it calls what this yields."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(database_url))
        runner.run(connection.execute("BEGIN; SELECT FROM lanes FOR UPDATE"))
        try:
            yield lambda: runner.run(connection.close())
        finally:
            runner.run(connection.close())


def _claim(stage: Stage, world: World, database: str, claims: int) -> None:
    """Claim over HTTP, every claim a winner. Raises BooksWrongError."""
    walk = BatchWalk(packets=world.packets, hands=world.shares, size=_REQUEST, hands_each=world.shares)
    headers = {"Authorization": f"Bearer {stage.token}", "Content-Type": "application/json"}
    with started(stage, OURS, database) as server:
        for index in range(min(walk.length, claims // _REQUEST)):
            status, answer = server.post("/v1/claims", headers, walk.body(index))
            if status != 200 or any(result.get("outcome") != "claimed" for result in orjson.loads(answer)["results"]):
                raise BooksWrongError(f"a claim did not win while the streams were filled: {answer[:200]!r}")


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
