"""Programs under test: starts them with their own environment, waits until they answer, stops them."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.rig import cpu
from engine.supervision.child import Command, Process

START_S_MAX = 30.0
_POLL_S = 0.02


class NotStartedError(Exception):
    """A program ended or took too long before it was ready."""


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without Hongbao's variables, and ``variables``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HONGBAO_")}
    return {**kept, **variables}


def start(argv: tuple[str, ...], *, variables: Mapping[str, str], cwd: Path, log_path: Path) -> Process:
    """Start a program that dies with this one and logs to ``log_path``."""
    return Process(Command(argv=argv, env=environment(variables), cwd=cwd, log_path=log_path, stop_timeout_s=30.0))


def hongbao(name: str, *words: str, variables: Mapping[str, str], cwd: Path) -> Process:
    """Start one of our own processes: ``hongbao serve``, ``persist`` or ``sweep``. ``words``: its options."""
    argv = (sys.executable, "-m", "engine", name, *words)
    return start(argv, variables=variables, cwd=cwd, log_path=cwd / f"{name}.log")


def wait_until(what: str, process: Process, ready: Callable[[], bool], timeout_s: float = START_S_MAX) -> None:
    """Block until ``ready``. Raises NotStartedError if the process ends before or takes too long."""
    deadline_s = time.monotonic() + timeout_s
    while not ready():
        if process.exit_code() is not None:
            raise NotStartedError(f"{what}: ended with {process.exit_code()}: {process.complaint()}")
        if time.monotonic() > deadline_s:
            raise NotStartedError(f"{what}: not done after {timeout_s:.0f} s: {process.complaint()}")
        time.sleep(_POLL_S)


def stop(process: Process) -> None:
    """Ask it to end, and make sure that it does."""
    process.signal(signal.SIGTERM)
    if not process.wait(30.0):
        process.kill()


def free_port() -> int:
    """A loopback port on which nobody listens at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether a loopback port accepts connections."""
    with socket.socket() as connection:
        connection.settimeout(1.0)
        return connection.connect_ex(("127.0.0.1", port)) == 0


def settle(process: Process, *, quiet_s: float = 0.5, timeout_s: float = 20.0) -> None:
    """Block until a newly started process uses almost no CPU."""
    deadline_s, used_s = time.monotonic() + timeout_s, -1.0
    while time.monotonic() < deadline_s:
        time.sleep(quiet_s)
        now_s = cpu.used_s(process.pid)
        if used_s > 0 and now_s - used_s < 0.1 * quiet_s:
            return
        used_s = now_s
