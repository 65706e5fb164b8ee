"""Postgres is stopped for a minute under a steady load: what is still given, when the bound is reached, the recovery.

Every process of Postgres is held (SIGSTOP). This is worse than a server that is gone: connections stay open and
nothing answers. The backlog's bound is lowered so that it is reached halfway.
"""

import dataclasses
import signal
import threading
import time
from typing import Any

import psutil

from benchmarks.rig import generators, processes
from benchmarks.rig.bench import Bench
from benchmarks.rig.lag import Sampler, seconds_behind
from benchmarks.rig.runs import FAILURES, Run, serving
from benchmarks.rig.servers import OURS, Started
from benchmarks.rig.stage import Stage
from benchmarks.rig.walks import Walk
from benchmarks.rig.world import World, claims_held, positions
from engine.supervision.child import Process

CONNECTIONS, RATE_PER_S = 256, 2_000
BEFORE_S, STOPPED_S, AFTER_S = 10, 60, 20
BACKLOG_MAX = RATE_PER_S * STOPPED_S // 2
_DRAIN_S_MAX = 120.0


def outage(bench: Bench) -> None:
    """Measure our server with its persister, once."""
    asked = RATE_PER_S * (BEFORE_S + STOPPED_S + AFTER_S)
    world = bench.world("outage", packets=asked // 100 + 1, shares=100)
    about = {"workload": "outage", "server": OURS.name, "round": 1, "connections": CONNECTIONS}
    server = dataclasses.replace(OURS, variables=_with_a_lower_bound)
    try:
        with serving(bench.stage, world, server) as (running, database):
            variables = bench.stage.variables(database)
            persist = processes.hongbao("persist", variables=variables, cwd=bench.stage.folder)
            try:
                found = _run(bench.stage, world, running, persist)
            finally:
                processes.stop(persist)
        bench.keep({**about, **found})
    except FAILURES as error:
        bench.keep({**about, "void": f"{type(error).__name__}: {error}"})
    finally:
        bench.stage.redis.stop()


def _with_a_lower_bound(stage: Stage, database: str, port: int) -> dict[str, str]:
    return stage.variables(database, port) | {"HONGBAO_BACKLOG_MAX": str(BACKLOG_MAX)}


def _run(stage: Stage, world: World, running: Started, persist: Process) -> Run:
    seconds = BEFORE_S + STOPPED_S + AFTER_S
    walk = Walk(packets=world.packets, hands=world.shares)
    walk = dataclasses.replace(walk, end=walk.length)
    orders = {"connections": CONNECTIONS, "rate_per_s": RATE_PER_S, "seconds": seconds, "seed": 2017}
    with stage.redis.client() as client:

        def drained() -> bool:
            position, applied = positions(client, world.lanes)
            return position == applied

        processes.wait_until("the ledger", persist, drained, _DRAIN_S_MAX)
        before = claims_held(client, world.packets)
        stopping = threading.Thread(target=_hold_up, args=(stage.postgres_process.pid,))
        with Sampler(stage.redis, world.lanes) as sampler:
            stopping.start()
            found = generators.run(stage, running, "outage_client", walk, **orders)
            ended_s = time.monotonic()
            stopping.join()
            processes.wait_until("the ledger", persist, drained, _DRAIN_S_MAX)
            drained_s = time.monotonic() - ended_s
        held = claims_held(client, world.packets) - before
    lag = seconds_behind(sampler.samples)
    return {
        "given": sum(second["given"] for second in found["seconds"]),
        "busy": sum(second["busy"] for second in found["seconds"]),
        "failed": found["failed"],
        "seconds": found["seconds"],
        "answers_per_s": found["per_s"],
        "lag_s_max": max(behind for _, behind in lag),
        "drained_after_s": drained_s,
        "lag": [(round(at, 2), round(behind, 2)) for at, behind in lag[::4]],
        "backlog": [(round(s.at_s, 2), s.position - s.applied) for s in sampler.samples[::4]],
        "void": "; ".join(problems(found, held)) or None,
    }


def _hold_up(pid: int) -> None:
    """Hold all of Postgres for a minute, including processes that start meanwhile."""
    time.sleep(BEFORE_S)
    root = psutil.Process(pid)
    held = [root, *root.children(recursive=True)]
    for process in held:
        process.send_signal(signal.SIGSTOP)
    time.sleep(STOPPED_S)
    for process in held:
        process.send_signal(signal.SIGCONT)


def problems(found: dict[str, Any], held: int) -> list[str]:
    """What must not happen: an answer that is neither a share nor busy, or an acknowledged share that is missing."""
    wrong = [f"{found['failed']:,} of {found['asked']:,} failed"] if found["failed"] else []
    if found["answered"] < found["asked"]:
        wrong.append(f"{found['asked'] - found['answered']:,} of {found['asked']:,} were not answered")
    given = sum(second["given"] for second in found["seconds"])
    if given != held:
        wrong.append(f"{given:,} answers had a share, {held:,} shares were given")
    if not any(second["busy"] for second in found["seconds"]):
        wrong.append("the bound was not reached")
    return wrong
