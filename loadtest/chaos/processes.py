"""Finds, kills, stops and continues the engine's processes by name, and never any other process."""

import contextlib
import signal
from pathlib import Path

import psutil

from engine.embedded import servers
from engine.supervision import report
from loadtest.chaos.schedule import PROCESSES, SERVERS


class Family:
    """One supervisor's children. ``run_dir``: the folder of their process ids."""

    def __init__(self, run_dir: Path, supervisor_pid: int) -> None:
        self._run_dir, self._supervisor_pid = run_dir, supervisor_pid

    def find(self, name: str) -> list[psutil.Process]:
        """A child and its descendants, the child first. Empty while it does not run."""
        with contextlib.suppress(psutil.Error):
            if (process := self._child(name)) is not None:
                return [process, *process.children(recursive=True)]
        return []

    def is_ready(self, name: str) -> bool:
        """Whether it runs and is ready."""
        if name in SERVERS:
            return dict(zip(SERVERS, servers.running(self._run_dir.parent), strict=True))[name] is not None
        process = self._child(name)
        return process is not None and report.is_ready(self._run_dir / f"{name}.report", process.pid)

    def away(self) -> list[str]:
        """The names of the processes that are not ready."""
        return [name for name in SERVERS + PROCESSES if not self.is_ready(name)]

    def _child(self, name: str) -> psutil.Process | None:
        """A child by itself. To find its descendants, every process of the machine is looked at."""
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            process = psutil.Process(int((self._run_dir / f"{name}.pid").read_text(encoding="utf-8")))
            if process.ppid() == self._supervisor_pid and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None


def send(processes: list[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to each process that still runs. psutil checks that no other process has its id by now."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
