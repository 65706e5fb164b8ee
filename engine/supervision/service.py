"""A service under the supervisor, and its start: prepare, spawn, wait."""

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
        """A unique name under one supervisor. The process id is written to ``run/<name>.pid``."""
        ...

    def prepare(self) -> None:
        """Do blocking work before every start: folders, stale files. May raise OperatorError."""
        ...

    def command(self) -> Command:
        """What to run."""
        ...

    def is_ready(self, pid: int) -> bool:
        """Check quickly whether the process can be used."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One of our own programs. ``env`` None: this process's environment.

    It is ready if ``report_path`` says so (module ``report``) and ``ready`` returns true. Either may be None.
    It is ended by SIGTERM and, ``stop_timeout_s`` later, by SIGKILL.
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
        """Forget the last process's report."""
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
        """Whether it has reported that it is ready."""
        said = self.report_path is None or report.is_ready(self.report_path, pid)
        return said and (self.ready is None or self.ready())


def wait_started(service: Service, process: Process) -> None:
    """Block until it is ready. Raises OperatorError if it ends instead, or takes too long."""
    deadline_s = process.started_at_s + START_TIMEOUT_S
    while True:
        exit_code = process.exit_code()  # first: another process might answer in its place
        if exit_code is not None:
            raise _not_started(service, process, f"it ended with exit code {exit_code}")
        if service.is_ready(process.pid):
            return
        if time.monotonic() > deadline_s:
            raise _not_started(service, process, f"silent for {START_TIMEOUT_S:g} s")
        time.sleep(_POLL_S)


def start(service: Service) -> Process:
    """Start it and block until it is ready. If this raises OperatorError, no process is left."""
    service.prepare()
    process = Process(service.command())
    try:
        wait_started(service, process)
    except BaseException:
        process.kill()
        raise
    return process


def stop_leftovers(folder: Path, names: tuple[str, ...], timeout_s: float = 10.0) -> None:
    """Stop servers that a killed supervisor left behind: processes with these names and this working folder.

    Redis and Postgres change into their data folder. The kernel reports it even if they do not answer. Call this only
    while holding the data directory's lock.
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
