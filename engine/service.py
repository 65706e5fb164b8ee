"""What the supervisor runs, and how one is started: prepared, spawned, waited for."""

import contextlib
import os
import time
from pathlib import Path
from typing import Protocol

import psutil

from engine.errors import OperatorError
from engine.process import Command, Process

POLL_S = 0.02
START_TIMEOUT_S = 120.0


class Service(Protocol):
    """Something that runs as a child process and can be started again after it died."""

    @property
    def name(self) -> str:
        """Unique under one supervisor; its process id is written to ``run/<name>.pid``."""
        ...

    def prepare(self) -> None:
        """Blocking work before every start: folders, stale files. May raise OperatorError."""
        ...

    def command(self) -> Command:
        """What to run."""
        ...

    def is_ready(self, pid: int) -> bool:
        """A quick look whether the process can be used."""
        ...


def has_started(service: Service, process: Process) -> bool:
    """Whether it is ready; False: not yet. Raises OperatorError when it has ended, or stays silent too long."""
    exit_code = process.exit_code()
    if exit_code is not None:
        raise OperatorError(f"{service.name} did not start: {_why(process, f'it ended with exit code {exit_code}')}")
    if service.is_ready(process.pid):
        return True
    if time.monotonic() - process.started_at_s > START_TIMEOUT_S:
        raise OperatorError(
            f"{service.name} did not start: {_why(process, f'not ready after {START_TIMEOUT_S:.0f} s')}"
        )
    return False


def start(service: Service) -> Process:
    """Start it and block until it is ready. Raises OperatorError; then no process is left."""
    service.prepare()
    process = Process(service.command())
    try:
        while not has_started(service, process):
            time.sleep(POLL_S)
    except BaseException:
        process.kill()
        raise
    return process


def stop_leftovers(folder: Path, names: tuple[str, ...], timeout_s: float = 10.0) -> None:
    """Stop servers an earlier, killed supervisor left behind: processes so named whose working folder is this one.

    Both Redis and Postgres change into their data folder, and the kernel vouches for it, also when they do not answer.
    Call it only while holding the data directory's lock.
    """
    leftovers = [process for process in psutil.process_iter() if _works_in(process, folder, names)]
    for process in leftovers:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(leftovers, timeout=timeout_s)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=timeout_s)


def _works_in(process: psutil.Process, folder: Path, names: tuple[str, ...]) -> bool:
    try:
        return process.name() in names and Path(process.cwd()) == folder.resolve() and process.pid != os.getpid()
    except psutil.Error:
        return False


def _why(process: Process, fallback: str) -> str:
    where = "" if process.command.log_path is None else f" (log: {process.command.log_path})"
    return f"{process.complaint() or fallback}{where}."
