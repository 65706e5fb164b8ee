"""What more masters cost: the same 12 lanes on a cluster of one master and of three, one API process.

Each claim is decided on its lane's own master, so three cost what one costs if nothing is done per server. Two cores
cannot show that three masters decide more; CPU time shows what a claim takes.
"""

import asyncio

from benchmarks.rig import wrk
from benchmarks.rig.bench import Bench
from benchmarks.rig.cpu import Meter
from benchmarks.rig.redis_cluster import redis_cluster
from benchmarks.rig.runs import FAILURES, BooksWrongError, Run, Trial, counted
from benchmarks.rig.servers import OURS, ours_with, started
from benchmarks.rig.stage import Stage, wait
from benchmarks.rig.walks import Walk
from benchmarks.rig.world import fill
from engine.auditing.audit import audit
from engine.connected import Connected
from engine.embedded.redis_cluster import EmbeddedRedisCluster
from engine.ledger import schema
from engine.running.processes import run_persister
from engine.settings import Settings

MASTERS = (1, 3)
LANES = 12
CONNECTIONS = 256
_PACKETS_AT_ONCE = 32
_SETTLE_S = 0.05


def masters(bench: Bench) -> None:
    """Measure only our server: no peer speaks to a cluster."""
    for number in range(1, bench.plan.rounds + 1):
        for count in MASTERS if number % 2 else MASTERS[::-1]:
            bench.keep(_run(bench, count, number))


def workload(count: int) -> str:
    """The name of the runs on so many masters."""
    return f"{count} masters"


def _run(bench: Bench, count: int, number: int) -> Run:
    about = {"workload": workload(count), "server": OURS.name, "round": number, "connections": CONNECTIONS}
    try:
        done = _measured(bench, count, number)
    except FAILURES as error:
        return {**about, "void": f"{type(error).__name__}: {error}"}
    problems = done.pop("problems")
    return {**about, **done, "void": "; ".join(problems) or None}


def _measured(bench: Bench, count: int, number: int) -> Run:
    stage, plan = bench.stage, bench.plan
    with redis_cluster(stage, f"cluster-{count}-{number}", count) as cluster:
        database = stage.create_database()
        try:
            wait(schema.migrate(stage.database_url(database)))
            settings = stage.settings(database, redis_url=cluster.url, lanes=LANES)
            *packets, _probe = wait(fill(settings, plan.packets_of_100, 100))
            trial = Trial(
                workload=workload(count),
                walk=Walk(packets=packets, hands=100, at_once=_PACKETS_AT_ONCE),
                connections=CONNECTIONS,
                duration_s=plan.seconds,
                warm_up_s=plan.warm_up_s,
            )
            done = _loaded(stage, database, settings, cluster, trial)
            if broken := wait(_broken(settings)):
                raise BooksWrongError("; ".join(broken))
        finally:
            stage.drop_database(database)
    return done


def _loaded(stage: Stage, database: str, settings: Settings, cluster: EmbeddedRedisCluster, trial: Trial) -> Run:
    server = ours_with({"HONGBAO_REDIS_URL": cluster.url, "HONGBAO_LANES": str(LANES)})
    with started(stage, server, database) as running:
        warm_up, measured = trial.scripts(stage.token)
        wrk.run(running.base_url, warm_up, connections=trial.connections, duration_s=trial.warm_up_s)
        before = wait(_changes(settings))
        pids = [node.process.pid for node in cluster.node_services if node.process is not None]
        meter = Meter({"server": [running.process.pid], "redis": pids})
        load = wrk.run(running.base_url, measured, connections=trial.connections, duration_s=trial.duration_s)
        cpu_s = meter.stop(wrk=load.cpu_s)
        held = wait(_changes(settings)) - before
    return counted(load, held, cpu_s, in_flight_max=trial.connections)


async def _changes(settings: Settings) -> int:
    """How many changes all lanes have, once those in progress are decided: while it is loaded, each is a claim."""
    async with Connected.open(settings) as connected:
        before, now = -1, 0
        while now != before:
            before = now
            await asyncio.sleep(_SETTLE_S)
            statuses = [await connected.store.lane_status(lane) for lane in range(LANES)]
            now = sum(status.position for status in statuses if status is not None)
        return now


async def _broken(settings: Settings) -> list[str]:
    """Let the ledger have everything, and name the invariants that do not hold."""
    stop = asyncio.Event()
    stop.set()  # it applies everything and returns
    await run_persister(settings, stop)
    async with Connected.open(settings) as connected:
        findings = await audit(connected.pool, connected.store, connected.stream)
        return [finding.statement for finding in findings if not finding.holds]
