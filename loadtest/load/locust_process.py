"""Locust as a child of `make load`: its arguments and its end. None of its processes is left."""

import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from engine.supervision.child import Command, Process
from engine.supervision.ports import held
from loadtest import cpu
from loadtest.load.identities import Given
from loadtest.load.shapes import Eve

_LOCUSTFILE = Path(__file__).with_name("locustfile.py")
_STOP_S_MAX = 15.0
_USER_STOP_S = 3
_POLL_S = 0.2
BEGUN = "The evening begins."
"""Locust logs this once the first packets are sent and users start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The checked options."""

    url: str
    eve: Eve
    processes: int
    report_dir: Path
    given: Given
    allow_remote: str | None


def run(plan: Plan, console: Console) -> tuple[int, float]:
    """Run it to its end and print each part of the evening. Returns its exit code and its CPU seconds."""
    with held("127.0.0.1", 0) as port:  # locust's processes talk to each other here
        return _run(plan, port, console)


def _run(plan: Plan, port: int, console: Console) -> tuple[int, float]:
    cpu_s: dict[int, float] = {}
    begun_s, told = None, None
    log_path = plan.report_dir / "locust.log"
    process = Process(
        Command(
            argv=_locust_argv(plan, port),
            log_path=log_path,
            stop_signal=signal.SIGINT,
            stop_timeout_s=_STOP_S_MAX,
            death_signal=signal.SIGTERM,  # so that it also ends its workers
        )
    )
    try:
        while not process.wait(_POLL_S):
            cpu_s |= cpu.of_tree(process.pid)  # workers are not always waited for, so the kernel's sum lacks them
            if begun_s is None:
                if BEGUN not in log_path.read_text(encoding="utf-8", errors="replace"):
                    continue
                begun_s = time.monotonic()
                console.print(_headline(plan))
            phase = plan.eve.phase_at(time.monotonic() - begun_s)
            if phase is not None and phase is not told:
                console.print(f"  {phase} ...")
                told = phase
    finally:
        _end(process)
    return process.exit_code() or 0, sum(cpu_s.values())


def _headline(plan: Plan) -> str:
    eve = f"the festival's eve in {plan.eve.duration_s:g} s, {plan.eve.users_max} users at midnight"
    return f"Load on {plan.url}: {eve}, {plan.processes} locust processes."


def _locust_argv(plan: Plan, port: int) -> tuple[str, ...]:
    options = {
        "locustfile": str(_LOCUSTFILE),
        "host": plan.url,
        "processes": str(plan.processes),
        "master-bind-host": "127.0.0.1",
        "master-bind-port": str(port),
        "master-host": "127.0.0.1",
        "master-port": str(port),
        "expect-workers-max-wait": "60",
        "stop-timeout": str(_USER_STOP_S),
        "html": str(plan.report_dir / "report.html"),
        "csv": str(plan.report_dir / "eve"),
        "eve-s": f"{plan.eve.duration_s:g}",
        "eve-users": str(plan.eve.users_max),
        "data-dir": plan.given.data_dir,
        "act-token": plan.given.act_token,
        "admin-token": plan.given.admin_token,
        "funded-senders": ",".join(plan.given.funded_senders),
        "allow-remote": plan.allow_remote,
    }
    words = [word for name, value in options.items() if value for word in (f"--{name}", str(value))]
    return (sys.executable, "-m", "locust", "--headless", "--only-summary", "--csv-full-history", *words)


def _end(process: Process) -> None:
    """Stop locust, which ends its workers. Processes that do not end in time are killed."""
    try:
        if process.exit_code() is None:
            process.stop()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it has its own session
