"""What the supervisor runs, and how one is started: prepared, spawned, waited for."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from engine.errors import OperatorError
from engine.supervision import report
from engine.supervision.child import Command, Process

_POLL_S = 0.02
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One of our own programs. ``env`` None: this process's own.

    Ready when it has said so in ``report_path`` (module ``report``) and ``ready`` is true; what is None is not asked.
    Ended by SIGTERM and, ``stop_timeout_s`` later, SIGKILL.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None
    log_path: Path | None = None
    stop_timeout_s: float = 10.0
    reload_signal: signal.Signals | None = None
    report_path: Path | None = None
    ready: Callable[[], bool] | None = None

    def prepare(self) -> None:
        """Forget what the last one said."""
        if self.report_path is not None:
            self.report_path.unlink(missing_ok=True)

    def command(self) -> Command:
        """What to run."""
        return Command(
            argv=self.argv,
            env=self.env,
            log_path=self.log_path,
            report_path=self.report_path,
            stop_timeout_s=self.stop_timeout_s,
            reload_signal=self.reload_signal,
        )

    def is_ready(self, pid: int) -> bool:
        """Whether it says so."""
        said = self.report_path is None or report.is_ready(self.report_path, pid)
        return said and (self.ready is None or self.ready())


def wait_started(service: Service, process: Process) -> None:
    """Block until it is ready. Raises OperatorError when it ends instead, or stays silent too long."""
    deadline_s = process.started_at_s + START_TIMEOUT_S
    while True:
        exit_code = process.exit_code()  # first: what answers must not be another one in its place
        if exit_code is not None:
            raise _not_started(service, process, f"it ended with exit code {exit_code}")
        if service.is_ready(process.pid):
            return
        if time.monotonic() > deadline_s:
            raise _not_started(service, process, f"silent for {START_TIMEOUT_S:g} s")
        time.sleep(_POLL_S)


def start(service: Service) -> Process:
    """Start it and block until it is ready. Raises OperatorError; then no process is left."""
    service.prepare()
    process = Process(service.command())
    try:
        wait_started(service, process)
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
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(leftovers, timeout=timeout_s)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=timeout_s)


def _works_in(process: psutil.Process, folder: Path, names: tuple[str, ...]) -> bool:
    try:
        return process.name() in names and Path(process.cwd()) == folder.resolve() and process.pid != os.getpid()
    except psutil.Error:
        return False


def _not_started(service: Service, process: Process, fallback: str) -> OperatorError:
    log_path = process.command.log_path
    where = "" if log_path is None else f" (log: {log_path})"
    why = (process.complaint() or fallback).rstrip(".")
    return OperatorError(f"{service.name} did not start: {why}{where}.")
