"""What a ledger's age costs: the persister alone, on the same streams, with a short past and with a long one.

The past is in the same volumes as if it had happened: the last of them has what is left of the entries.
"""

from benchmarks.parts import persisting
from benchmarks.rig import history
from benchmarks.rig.bench import Bench
from benchmarks.rig.runs import FAILURES, Run
from benchmarks.rig.stage import Stage, wait
from benchmarks.rig.walks import POPULATION
from benchmarks.rig.world import World, fill
from engine.lanes import keys
from engine.ledger import schema

PASTS = (100_000, 30_000_000)
_SHARES = 100


def ages(bench: Bench) -> None:
    """Fill the streams once for each past. Then persist them in each round."""
    filled = {}
    try:
        for entries in PASTS:
            world = _world(bench, entries)
            filled[entries] = persisting.fill_streams(bench.stage, world, bench.plan.persisted_claims)
            bench.stage.drop_database(world.database)
        for number in range(1, bench.plan.costly_rounds + 1):
            for entries in PASTS if number % 2 else PASTS[::-1]:
                bench.keep(_run(bench.stage, filled[entries], workload(entries), number))
    finally:
        for world in filled.values():
            bench.stage.drop_database(world.database)


def workload(entries: int) -> str:
    """The name of the runs with so many entries in the ledger."""
    return f"F, after {entries}"


def _world(bench: Bench, entries: int) -> World:
    """Packets in a ledger with a past."""
    stage, packets = bench.stage, -(-bench.plan.persisted_claims // _SHARES)
    stage.redis.start(None)
    database = stage.create_database()
    url = stage.database_url(database)
    wait(schema.migrate(url))
    position = wait(history.add(url, entries, POPULATION, bench.say))
    with stage.redis.client() as client:
        lane = {"epoch": history.EPOCH, "position": position, "applied": position}
        client.hset(keys.lane(history.LANE), mapping=lane)
    *made, probe = wait(fill(stage.settings(database), packets, _SHARES))
    snapshot = stage.folder / f"after-{entries}.rdb"
    stage.redis.save(snapshot)
    stage.redis.stop()
    return World(packets=tuple(made), shares=_SHARES, probe=probe, snapshot=snapshot, database=database)


def _run(stage: Stage, filled: World, name: str, number: int) -> Run:
    about = {"workload": name, "server": "hongbao", "round": number, "connections": 0}
    stage.redis.start(filled.snapshot)
    database = stage.create_database(filled.database)
    try:
        return {**about, **persisting.persist(stage, filled, database), "void": None}
    except FAILURES as error:
        return {**about, "void": f"{type(error).__name__}: {error}"}
    finally:
        stage.drop_database(database)
        stage.redis.stop()
