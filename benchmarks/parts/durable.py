"""Workload E: everything on, and a claim counts once it is in the ledger; and the cost of the append-only file."""

import time

import asyncpg

from benchmarks.peers.availability import HERE as PEERS
from benchmarks.rig import answers, books, processes, wrk
from benchmarks.rig.bench import Bench
from benchmarks.rig.cpu import Meter
from benchmarks.rig.lag import Sampler, seconds_behind
from benchmarks.rig.redis_server import APPENDFSYNC
from benchmarks.rig.runs import FAILURES, BooksWrongError, Run, Trial, beside, counted, run, serving, settled, trees
from benchmarks.rig.servers import GO_GROUP, OURS, POSTGRES, Server, Started, started
from benchmarks.rig.stage import Stage, wait
from benchmarks.rig.variants import APPENDFSYNC_ON, EVERYTHING
from benchmarks.rig.walks import Walk
from benchmarks.rig.world import PROBE_SHARES, SHARE_FEN_MEAN, World, positions
from engine.supervision.child import Process

CONNECTIONS = 256
_DRAIN_S_MAX = 120.0
_SCHEMA = PEERS / "postgres/schema.sql"


def everything_on(bench: Bench) -> None:
    """Compare API, persister, sweeper, append-only file and ledger with a service directly on Postgres.

    Go with group commit takes our API's place, before the same persister.
    """
    plan = bench.plan
    world = bench.world("hundreds", packets=plan.packets_of_100, shares=100)
    trial = Trial(
        workload="E",
        walk=Walk(packets=world.packets, hands=100),
        connections=CONNECTIONS,
        duration_s=plan.durable_seconds,
        warm_up_s=plan.warm_up_s,
        appendfsync=APPENDFSYNC_ON,
    )
    chosen = [server for server in bench.servers if server in (OURS, GO_GROUP, POSTGRES)]
    template = wait(_tables(bench.stage, world)) if POSTGRES in bench.servers else ""
    for number, server in bench.rounds(chosen, plan.costly_rounds):
        about = {"workload": "E", "server": server.name, "round": number, "connections": CONNECTIONS}
        try:
            if server.on_ledger:
                done = _into_the_ledger(bench.stage, world, server, trial)
            else:
                done = _straight_on_postgres(bench.stage, world, trial, template)
            problems = done.pop("problems")
            bench.keep({**about, **done, "void": "; ".join(problems) or None})
        except FAILURES as error:
            bench.keep({**about, "void": f"{type(error).__name__}: {error}"})
        finally:
            bench.stage.redis.stop()


def append_only_file(bench: Bench) -> None:
    """Measure workload A on our server, with 256 connections, for each setting of Redis's append-only file."""
    plan = bench.plan
    world = bench.world("hundreds", packets=plan.packets_of_100, shares=100)
    walk = Walk(packets=world.packets, hands=100)
    for number in range(1, plan.aof_rounds + 1):
        for appendfsync in APPENDFSYNC:
            trial = Trial(
                workload="AOF",
                walk=walk,
                connections=CONNECTIONS,
                duration_s=plan.seconds,
                warm_up_s=plan.warm_up_s,
                appendfsync=appendfsync,
            )
            bench.keep(run(bench.stage, world, OURS, trial, number))


def _into_the_ledger(stage: Stage, world: World, server: Server, trial: Trial) -> Run:
    with (
        serving(stage, world, server, appendfsync=trial.appendfsync) as (running, database),
        beside(stage, database, EVERYTHING) as others,
    ):
        return _loaded(stage, world, trial, running, others)


def _loaded(stage: Stage, world: World, trial: Trial, server: Started, others: dict[str, Process]) -> Run:
    """Load it and wait for the ledger. The rate is the claims over the time until the last one was there."""
    base_url = server.base_url
    warm_up, measured = trial.scripts(stage.token)
    with stage.redis.client() as client:

        def drained() -> bool:
            position, applied = positions(client, world.lanes)
            return position == applied

        wrk.run(base_url, warm_up, connections=trial.connections, duration_s=trial.warm_up_s)
        processes.wait_until("the ledger", others["persist"], drained, _DRAIN_S_MAX)
        held_before = settled(client, world)
        meter, started_s = Meter(trees(stage, server, others)), time.monotonic()
        with Sampler(stage.redis, world.lanes) as sampler:
            load = wrk.run(base_url, measured, connections=trial.connections, duration_s=trial.duration_s)
            processes.wait_until("the ledger", others["persist"], drained, _DRAIN_S_MAX)
        took_s = time.monotonic() - started_s
        cpu_s = meter.stop(wrk=load.cpu_s)
        held = settled(client, world) - held_before
    done = counted(load, held, cpu_s, in_flight_max=trial.connections)
    lag = seconds_behind(sampler.samples)
    return {
        **done,
        "durable_per_s": held / took_s,
        "drained_after_s": took_s - load.duration_s,
        "lag_s_max": max((seconds for _, seconds in lag), default=0.0),
        "lag": [(round(at, 3), round(seconds, 3)) for at, seconds in lag],
        "backlog": [(round(s.at_s, 3), s.position - s.applied) for s in sampler.samples],
        "appendfsync": trial.appendfsync,
    }


async def _tables(stage: Stage, world: World) -> str:
    """Make the world for the peer on Postgres: the same packets and shares. Returns the template's name."""
    connection = await asyncpg.connect(stage.postgres.url)
    name = "bench_straight"
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name}")
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    counts = dict.fromkeys(world.packets, world.shares) | {world.probe: PROBE_SHARES}
    connection = await asyncpg.connect(stage.database_url(name))
    try:
        await connection.execute(_SCHEMA.read_text(encoding="utf-8"))
        packets = [(int(packet), 4_000_000_000_000) for packet in counts]
        await connection.copy_records_to_table("packets", records=packets)
        shares = [(int(packet), slot, SHARE_FEN_MEAN) for packet, count in counts.items() for slot in range(count)]
        columns = ["packet_id", "slot", "amount_fen"]
        await connection.copy_records_to_table("shares", records=shares, columns=columns)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
    return name


def _straight_on_postgres(stage: Stage, world: World, trial: Trial, template: str) -> Run:
    database = stage.create_database(template)
    try:
        with started(stage, POSTGRES, database) as server:
            answers.check(server, world.probe, stage.token)
            warm_up, measured = trial.scripts(stage.token)
            wrk.run(server.base_url, warm_up, connections=trial.connections, duration_s=trial.warm_up_s)
            held_before = wait(_claimed(stage.database_url(database)))
            meter = Meter({"server": [server.process.pid], "postgres": [stage.postgres_process.pid]})
            load = wrk.run(server.base_url, measured, connections=trial.connections, duration_s=trial.duration_s)
            cpu_s = meter.stop(wrk=load.cpu_s)
        held = wait(_claimed(stage.database_url(database))) - held_before
        if problems := books.on_postgres(stage, database):
            raise BooksWrongError("; ".join(problems))
    finally:
        stage.drop_database(database)
    done = counted(load, held, cpu_s, in_flight_max=2 * trial.connections)  # also the warm-up's last ones
    return {**done, "durable_per_s": done["claims_per_s"]}


async def _claimed(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        count: int = await connection.fetchval("SELECT count(*) FROM shares WHERE user_id IS NOT NULL")
    finally:
        await connection.close()
    return count
