"""One run: a fresh Redis and a fresh server on a world's snapshot, warmed up, loaded, stopped, audited."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from redis import Redis

from benchmarks.rig import answers, books, processes, wrk
from benchmarks.rig.cpu import Meter
from benchmarks.rig.load import Load, LoadFailedError
from benchmarks.rig.processes import NotStartedError
from benchmarks.rig.servers import Server, Started, started
from benchmarks.rig.stage import Stage
from benchmarks.rig.variants import ALONE, EVERYTHING, Variant
from benchmarks.rig.walks import Walk, claim_lua
from benchmarks.rig.world import World, claims_held
from engine.errors import HongbaoError
from engine.supervision.child import Process

FAILURES = (answers.WrongAnswerError, NotStartedError, LoadFailedError, HongbaoError, OSError)
"""Errors that make a run void without stopping the others."""
_SETTLE_S = 0.05
Run = dict[str, Any]
"""A run for the JSON: workload, server, round, connections, counts, costs, and ``void`` (None, or why)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The plan of one run. ``warm_up``: the first part of the walk, which is not measured. ``workload``: without the
    variant's name."""

    workload: str
    walk: Walk
    connections: int
    duration_s: int
    warm_up_s: int = 1
    warm_up_share: float = 0.25
    all_win: bool = True
    appendfsync: str = "off"
    variant: Variant = ALONE

    def scripts(self, token: str) -> tuple[str, str]:
        """wrk's scripts for the warm-up and for the measurement."""
        length = self.walk.length
        middle = int(length * self.warm_up_share)
        return (
            claim_lua(replace(self.walk, first=0, end=middle), token, self.variant.shape),
            claim_lua(replace(self.walk, first=middle, end=length), token, self.variant.shape),
        )


def run(stage: Stage, world: World, server: Server, trial: Trial, number: int) -> Run:
    """Do one run. A failure makes it void, with the reason."""
    about = {
        "workload": trial.variant.name(trial.workload),
        "server": server.name,
        "round": number,
        "connections": trial.connections,
    }
    about |= {"appendfsync": trial.appendfsync}
    try:
        measured = _measured(stage, world, server, trial)
    except FAILURES as error:
        return {**about, "void": f"{type(error).__name__}: {error}"}
    finally:
        stage.redis.stop()
    problems = measured.pop("problems")
    return {**about, **measured, "void": "; ".join(problems) if problems else None}


@contextmanager
def serving(
    stage: Stage, world: World, server: Server, *, appendfsync: str = "off", audited: bool = True
) -> Iterator[tuple[Started, str]]:
    """A fresh Redis on the world's snapshot, a copy of its ledger, and a server on both that answers correctly.

    Yields the server and the database's name. After the block the books are examined, unless no measurement depends on
    them. Redis still runs then, and the database is gone. Raises one of FAILURES.
    """
    stage.redis.start(world.snapshot, appendfsync=appendfsync)
    database = stage.create_database(world.database) if server.on_ledger else ""
    try:
        if database:
            books.compare(stage, database)
        with started(stage, server, database) as running:
            answers.check(running, world.probe, stage.token)
            yield running, database
        # The server has stopped: nothing more is written, so the books can be examined.
        if not audited:
            return
        problems = books.ours(stage, database) if server.on_ledger else books.peers(stage, world)
        if problems:
            raise BooksWrongError("; ".join(problems))
    finally:
        if database:
            stage.drop_database(database)


@contextmanager
def beside(stage: Stage, database: str, names: Sequence[str] = EVERYTHING) -> Iterator[dict[str, Process]]:
    """Our own processes beside a server during the block, by name."""
    variables, running = stage.variables(database), dict[str, Process]()
    try:
        for name in names:
            running[name] = processes.hongbao(name, variables=variables, cwd=stage.folder)
        for process in running.values():
            processes.settle(process)
        yield running
    finally:
        for process in running.values():
            processes.stop(process)


def trees(stage: Stage, server: Started, others: Mapping[str, Process]) -> dict[str, list[int]]:
    """The process trees of a run, by name, for a meter. Postgres has work only if others run beside the server."""
    found = {"server": [server.process.pid], "redis": [stage.redis.pid]}
    found |= {name: [process.pid] for name, process in others.items()}
    return found | ({"postgres": [stage.postgres_process.pid]} if others else {})


class BooksWrongError(HongbaoError):
    """The audit after a run found something."""

    code = "books_wrong"


def _measured(stage: Stage, world: World, server: Server, trial: Trial) -> Run:
    warm_up, measured = trial.scripts(stage.token)
    with (
        serving(stage, world, server, appendfsync=trial.appendfsync) as (running, database),
        beside(stage, database, trial.variant.beside) as others,
        stage.redis.client() as client,
    ):
        wrk.run(running.base_url, warm_up, connections=trial.connections, duration_s=trial.warm_up_s)
        held_before = settled(client, world)
        meter = Meter(trees(stage, running, others))
        load = wrk.run(running.base_url, measured, connections=trial.connections, duration_s=trial.duration_s)
        cpu_s = meter.stop(wrk=load.cpu_s)
        held = settled(client, world) - held_before
    return counted(load, held, cpu_s, in_flight_max=trial.connections, all_win=trial.all_win)


def settled(client: Redis, world: World) -> int:
    """How many claims Redis holds once those that were in progress when wrk stopped are decided."""
    before, held = -1, claims_held(client, world.packets)
    while held != before:
        time.sleep(_SETTLE_S)
        before, held = held, claims_held(client, world.packets)
    return held


def counted(
    load: Load,
    held: int,
    cpu_s: Mapping[str, float],
    *,
    in_flight_max: int,
    all_win: bool = True,
    claims_each: int = 1,
) -> Run:
    """The run's figures from the generator's counts, the new claims in Redis, and the CPU time of each process.

    ``in_flight_max``: requests that may be decided but not counted, because wrk stopped before their answers.
    """
    answered = load.requests * claims_each
    problems = load.problems()
    if all_win and not answered <= held <= answered + in_flight_max:
        problems.append(f"{answered:,} answers, but {held:,} shares given: not every claim won (the walk ran out?)")
    won = min(held, answered)
    return {
        "answers_per_s": answered / load.duration_s,
        "claims_per_s": won / load.duration_s,
        "answers": answered,
        "claims": won,
        "cpu_us_per_answer": {name: used / max(1, answered) * 1e6 for name, used in cpu_s.items()},
        "cpu_share": {name: used / load.duration_s for name, used in cpu_s.items()},
        "closed_loop_ms": {"p50": load.p50_ms, "p99": load.p99_ms, "max": load.max_ms},
        "duration_s": load.duration_s,
        "problems": problems,
    }
