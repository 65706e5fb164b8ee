"""The cost of each ack mode: everything on, all winners, answered as the mode requires."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from benchmarks.rig import answers, books, processes, wrk
from benchmarks.rig.bench import Bench
from benchmarks.rig.cpu import Meter
from benchmarks.rig.redis_server import RedisServer
from benchmarks.rig.runs import FAILURES, BooksWrongError, Run, Trial, counted, settled
from benchmarks.rig.servers import OURS, Server, started
from benchmarks.rig.stage import Stage
from benchmarks.rig.walks import Walk
from benchmarks.rig.world import World
from engine.records import Ack
from engine.supervision.child import Process

WORKLOAD = "ack"
CONNECTIONS = 64


def ack_modes(bench: Bench) -> None:
    """Workload A at 64 connections for each mode, with persister and append-only file; ``replica`` with one replica."""
    plan = bench.plan
    world = bench.world("some hundreds", packets=plan.packets_of_100_slow, shares=100)
    trial = Trial(
        workload=WORKLOAD,
        walk=Walk(packets=world.packets, hands=100),
        connections=CONNECTIONS,
        duration_s=plan.seconds,
        warm_up_s=plan.warm_up_s,
    )
    for number in range(1, plan.aof_rounds + 1):
        for ack in Ack:
            about = {"workload": WORKLOAD, "server": OURS.name, "round": number, "connections": CONNECTIONS, "ack": ack}
            try:
                problems = (done := _measured(bench.stage, world, trial, ack)).pop("problems")
                bench.keep({**about, **done, "void": "; ".join(problems) or None})
            except FAILURES as error:
                bench.keep({**about, "void": f"{type(error).__name__}: {error}"})
            finally:
                bench.stage.redis.stop()


def _measured(stage: Stage, world: World, trial: Trial, ack: Ack) -> Run:
    stage.redis.start(world.snapshot, appendfsync="always" if ack is Ack.FSYNC else "everysec")
    database = stage.create_database(world.database)
    try:
        with (
            _persister(stage, database, ack) as persister,
            replica(stage, wanted=ack is Ack.REPLICA),
            started(stage, _ours(ack), database) as server,
            stage.redis.client() as client,
        ):
            answers.check(server, world.probe, stage.token)
            warm_up, measured = trial.scripts(stage.token)
            wrk.run(server.base_url, warm_up, connections=trial.connections, duration_s=trial.warm_up_s)
            held_before = settled(client, world)
            trees = {"server": [server.process.pid], "redis": [stage.redis.pid], "persist": [persister.pid]}
            meter = Meter({**trees, "postgres": [stage.postgres_process.pid]})
            load = wrk.run(server.base_url, measured, connections=trial.connections, duration_s=trial.duration_s)
            cpu_s = meter.stop(wrk=load.cpu_s)
            held = settled(client, world) - held_before
        if problems := books.ours(stage, database):
            raise BooksWrongError("; ".join(problems))
    finally:
        stage.drop_database(database)
    return counted(load, held, cpu_s, in_flight_max=trial.connections)


def _ours(ack: Ack) -> Server:
    return replace(
        OURS,
        variables=lambda stage, database, port: {**stage.variables(database, port), "HONGBAO_ACK": ack.value},
    )


@contextmanager
def _persister(stage: Stage, database: str, ack: Ack) -> Iterator[Process]:
    variables = {**stage.variables(database), "HONGBAO_ACK": ack.value}
    process = processes.hongbao("persist", variables=variables, cwd=stage.folder)
    try:
        yield process
    finally:
        processes.stop(process)


@contextmanager
def replica(stage: Stage, *, wanted: bool) -> Iterator[None]:
    """Run a replica that is in sync, if wanted."""
    if not wanted:
        yield
        return
    other = RedisServer(stage.folder / "replica")
    other.start(None)
    try:
        with stage.redis.client() as client:
            client.config_set("repl-diskless-sync-delay", 0)
        with other.client() as client:
            client.replicaof("127.0.0.1", str(stage.redis.port))
        # The server reports that it is ready only once the replica is there.
        yield
    finally:
        other.stop()
