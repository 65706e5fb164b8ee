"""Starts its own engine over a network that can be cut, plays a plan on it, and judges the result."""

import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypedDict

import orjson
import uvloop
from rich.console import Console

from engine.embedded import data_dir as data_dirs
from engine.embedded import servers
from engine.settings import Settings
from loadtest.chaos import disk, report, schedule
from loadtest.chaos.asking import Client
from loadtest.chaos.breaker import Breaker
from loadtest.chaos.checker import check
from loadtest.chaos.cluster_breaker import ClusterBreaker
from loadtest.chaos.disk import SmallDisk
from loadtest.chaos.errands import TRANSFER_DELAY_S
from loadtest.chaos.figures import figures
from loadtest.chaos.findings import Findings
from loadtest.chaos.guests import Guests
from loadtest.chaos.history import History, Recorded
from loadtest.chaos.plan import Plan
from loadtest.chaos.probing import Prober
from loadtest.chaos.processes import Family
from loadtest.chaos.proxy import Network
from loadtest.chaos.schedule import LINKS, Fault
from loadtest.chaos.story import Ending, Stage
from loadtest.chaos.watch import Watch
from loadtest.nodes import Nodes
from loadtest.running import NotStartedError, fresh_data_dir, started
from loadtest.steps import Steps

WORKERS = 2
_PAUSES_CLUSTER = 20.0
"""Its nodes share the machine with the guests. How fast a replica takes over is of interest, not how busy it can be."""
_CONNECTIONS, _PROBER_CONNECTIONS = 64, 320


class _Common(TypedDict):
    """What both breakers need."""

    data_dir: Path
    family: Family
    network: Network
    history: History
    supervisor_pid: int
    copy: Path
    disk: SmallDisk | None


Meddle = Callable[[Path, Path], None]
"""Called with the data directory and the history's path before the judgement, for tests of it."""


def run(console: Console, plan: Plan, meddle: Meddle | None = None) -> int:
    """Play a plan. Returns the exit code. Raises NotStartedError."""
    started_s = time.monotonic()
    faults = _schedule(console, plan)
    kept = Path(tempfile.mkdtemp(prefix="hongbao-chaos-"))
    is_kept = True
    try:
        ending = _play(console, plan, faults, kept, meddle)
        records = Recorded(kept / "history.jsonl")
        findings = check(records, ending.books, plan.ack) if ending.books is not None else Findings()
        problems = ending.problems + findings.problems + _broken(ending)
        took_s = time.monotonic() - started_s
        wrong = len(problems) + findings.more
        report.show(console, plan, figures(records), findings=findings, ending=ending, wrong=wrong, took_s=took_s)
        if problems:
            report.show_failure(console, plan, problems, more=findings.more, faults=faults, kept=kept)
        is_kept = bool(problems)
        return int(is_kept)
    except (KeyboardInterrupt, SystemExit, NotStartedError):
        is_kept = False
        raise
    finally:
        if not is_kept:
            shutil.rmtree(kept, ignore_errors=True)


def _schedule(console: Console, plan: Plan) -> list[Fault]:
    if plan.nodes:
        return schedule.make_for_cluster(plan.seed, plan.faults, plan.lanes)
    reason = disk.why_not() if plan.full_disk else None
    if reason is not None:
        console.print(f"The disk is never full in this run: {reason}.", markup=False, highlight=False)
    full_disk = plan.full_disk and reason is None
    return schedule.make(plan.seed, plan.kills, full_disk=full_disk, lose_redis=plan.lose_redis)


def _play(console: Console, plan: Plan, faults: Sequence[Fault], kept: Path, meddle: Meddle | None) -> Ending:
    (kept / "schedule.txt").write_text("".join(f"{fault.line()}\n" for fault in faults), encoding="utf-8")
    is_small = any(fault.kind is schedule.Kind.FULL_DISK for fault in faults)
    with ExitStack() as stack:
        data_dir = stack.enter_context(fresh_data_dir())
        network = stack.enter_context(Network(_upstreams(plan, data_dir)))
        history = stack.enter_context(History(kept / "history.jsonl"))
        small_disk = SmallDisk(data_dir.resolve() / "redis") if is_small else None
        secret = secrets.token_hex(32)
        argv = [sys.executable, "-m", "loadtest.chaos.host", str(data_dir), str(WORKERS), str(plan.nodes)]
        argv.append(orjson.dumps(network.ports).decode())
        argv = argv if small_disk is None else small_disk.command(argv)
        process = stack.enter_context(started(argv, data_dir / "up.log", _environment(plan, secret)))
        redis = data_dir / "redis" if small_disk is None else small_disk.seen(process.pid)
        logs = [data_dir / "up.log", data_dir / "postgres.log", redis / "redis.log"]
        logs += (data_dir / "redis-cluster" / str(number) / "redis.log" for number in range(1, 2 * plan.nodes + 1))
        stack.enter_context(_kept(logs, kept))
        console.print(f"Ready on {process.base_url}.", markup=False, highlight=False)
        family = Family(data_dirs.run_dir(data_dir), process.pid)

        async def story() -> Ending:
            clients = (
                Client(process.base_url, secret.encode(), history, connections=connections)
                for connections in (_CONNECTIONS, _PROBER_CONNECTIONS)
            )
            async with next(clients) as client, next(clients) as probing:
                with Steps(console) as steps:
                    guests = Guests(client, plan.seed)
                    if plan.nodes:
                        guests.pauses = _PAUSES_CLUSTER
                        guests.prober = Prober(probing, plan.lanes, guests.stopping)
                    stage = Stage(
                        client=client,
                        guests=guests,
                        breaker=breaker(),
                        watch=Watch(data_dir, history, plan.lanes),
                        history=history,
                        steps=steps,
                        environment=_environment(plan, secret),
                        is_cluster=plan.nodes > 0,
                    )
                    return await stage.play(faults)

        def breaker() -> Breaker:
            common = _Common(
                data_dir=data_dir.resolve(),
                family=family,
                network=network,
                history=history,
                supervisor_pid=process.pid,
                copy=data_dir / "copy",
                disk=small_disk,
            )
            if not plan.nodes:
                return Breaker(**common)
            urls = servers.urls(data_dir)
            settings = Settings(redis_url=urls.redis_url, database_url=urls.database_url, data_dir=data_dir)
            return ClusterBreaker(**common, nodes=Nodes(data_dir, plan.lanes), settings=settings)

        ending = uvloop.run(story())
        if meddle is not None:
            meddle(data_dir, history.path)
        return ending


def _upstreams(plan: Plan, data_dir: Path) -> dict[str, Path]:
    sockets = {
        "redis": data_dirs.redis_socket(data_dir),
        "postgres": data_dirs.postgres_socket_dir(data_dir) / ".s.PGSQL.5432",
    }
    if plan.nodes:
        del sockets["redis"]  # a cluster's clients are told its nodes' own addresses, so no proxy stays in between
    return {link: sockets[server] for link in LINKS if (server := link.partition("/")[2]) in sockets}


def _environment(plan: Plan, secret: str) -> dict[str, str]:
    """The engine's environment without the operator's settings, so that only its own servers are touched."""
    ours = {
        "ACK": plan.ack,
        "AUTH_SECRET": secret,
        "COUNT_MAX": "1000000",
        "LANES": str(plan.lanes),
        "PAYMENT_PASSWORD_HASH_KIB": "64",
        "PAYOUT_INTERVAL_S": "0.2",
        "RETRACTIONS_AN_HOUR_MAX": "1000000",
        "SANDBOX_PAYOUT_S": "0.2",
        "TRANSFER_DELAY_S_SHORT": str(TRANSFER_DELAY_S),
        "REDIS_TIMEOUT_S": "1" if plan.nodes else "2",
        "DATABASE_TIMEOUT_S": "3",
        "VOLUME_ENTRIES": "1000",  # so that several volumes of the ledger are begun, and closed
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HONGBAO_")}
    return inherited | {f"HONGBAO_{name}": value for name, value in ours.items()}


def _broken(ending: Ending) -> list[str]:
    """The invariants that the audit reports as broken."""
    return [f"audit: {finding['statement']}: {finding['problems']}" for finding in ending.audit if not finding["holds"]]


@contextmanager
def _kept(paths: Sequence[Path], kept: Path) -> Iterator[None]:
    """Copy files after the block, before their folders go."""
    try:
        yield
    finally:
        for path in paths:
            with contextlib.suppress(OSError):
                number = path.parent.name
                shutil.copy(path, kept / (f"redis-{number}.log" if number.isdigit() else path.name))
