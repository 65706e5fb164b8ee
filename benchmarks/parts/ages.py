"""What a ledger's age costs: the persister and the audit, on the same streams, with a short past and with a long one.

The past is in the same volumes as if it had happened: the last of them has what is left of the entries. It was audited
whole, so the audit after each run goes on from there.
"""

import time

from benchmarks.parts import persisting
from benchmarks.rig import history
from benchmarks.rig.bench import Bench
from benchmarks.rig.runs import FAILURES, BooksWrongError, Run
from benchmarks.rig.stage import Stage, wait
from benchmarks.rig.walks import POPULATION
from benchmarks.rig.world import World, fill
from engine.access.keyring import Keyring, Secret
from engine.auditing.audit import Plan, audit_on
from engine.connected import Connected
from engine.lanes import keys
from engine.ledger import schema

PASTS = (100_000, 30_000_000)
_SHARES = 100
_JOBS = 2
_AUDIT_S_MAX = 3_600.0


def ages(bench: Bench) -> None:
    """Make each past once. Then persist the same claims after it in each round."""
    worlds = dict[int, World]()
    bench.others["ages"] = audits_s = dict[str, float]()
    try:
        for entries in PASTS:
            worlds[entries], audits_s[str(entries)] = _world(bench, entries)
        for number in range(1, bench.plan.costly_rounds + 1):
            for entries in PASTS if number % 2 else PASTS[::-1]:
                bench.keep(_run(bench, worlds[entries], workload(entries), number))
    finally:
        for world in worlds.values():
            bench.stage.drop_database(world.database)


def workload(entries: int) -> str:
    """The name of the runs with so many entries in the ledger."""
    return f"F, after {entries}"


def _world(bench: Bench, entries: int) -> tuple[World, float]:
    """Packets in a ledger with a past, and how long the audit of it all took."""
    stage, packets = bench.stage, persisting.packets_for(bench)
    stage.redis.start(None)
    database = stage.create_database()
    url = stage.database_url(database)
    wait(schema.migrate(url))
    position = wait(history.add(url, entries, POPULATION, bench.say))
    with stage.redis.client() as client:
        lane = {"epoch": history.EPOCH, "position": position, "applied": position}
        client.hset(keys.lane(history.LANE), mapping=lane)
    *made, probe = wait(fill(stage.settings(database), packets, _SHARES))
    audit_s = wait(_audit(stage, database, goes_on=False))
    bench.say(f"AGES           all {entries:,} entries audited in {audit_s:.0f} s")
    snapshot = stage.folder / f"after-{entries}.rdb"
    stage.redis.save(snapshot)
    stage.redis.stop()
    world = World(packets=tuple(made), shares=_SHARES, probe=probe, snapshot=snapshot, database=database)
    return world, audit_s


async def _audit(stage: Stage, database: str, *, goes_on: bool) -> float:
    """Audit the books and keep an anchor. Returns the seconds it took."""
    settings = stage.settings(database, database_timeout_s=_AUDIT_S_MAX, database_pool_max=2 * _JOBS)
    keyring = Keyring([Secret(None, stage.secret.encode())])
    plan = Plan(jobs=_JOBS, retention_ms=settings.settled_retention_s * 1_000)
    async with Connected.open(settings) as connected:
        started_s = time.perf_counter()
        audited = await audit_on(connected.pool, connected.store, connected.stream, keyring, plan)
        took_s = time.perf_counter() - started_s
    wrong = [problem for finding in audited.findings for problem in finding.problems]
    if wrong or audited.not_kept or audited.is_on != goes_on:
        raise BooksWrongError("; ".join([*wrong, audited.not_kept or audited.scope]))
    return took_s


def _run(bench: Bench, world: World, name: str, number: int) -> Run:
    about = {"workload": name, "server": "hongbao", "round": number, "connections": 0}
    try:
        with persisting.persisted(bench.stage, world, bench.plan.persisted_claims, audited=False) as (done, database):
            return {**about, **done, "audit_s": wait(_audit(bench.stage, database, goes_on=True)), "void": None}
    except FAILURES as error:
        return {**about, "void": f"{type(error).__name__}: {error}"}
