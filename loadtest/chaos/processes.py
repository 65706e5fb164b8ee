"""The engine's processes by name: to be found, killed, stopped and continued. Never a process of anybody else."""

import contextlib
import signal
from pathlib import Path

import psutil

from engine.embedded import servers
from engine.supervision import report
from loadtest.chaos.schedule import PROCESSES, SERVERS


class Family:
    """The children of one supervisor. ``run_dir``: where it writes their process ids."""

    def __init__(self, run_dir: Path, supervisor_pid: int) -> None:
        self._run_dir, self._supervisor_pid = run_dir, supervisor_pid

    def find(self, name: str) -> list[psutil.Process]:
        """A child and all below it, the child first; empty while it does not run."""
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            process = psutil.Process(int((self._run_dir / f"{name}.pid").read_text(encoding="utf-8")))
            if process.ppid() == self._supervisor_pid and process.status() != psutil.STATUS_ZOMBIE:
                return [process, *process.children(recursive=True)]
        return []

    def is_ready(self, name: str) -> bool:
        """Whether it runs and can do its work."""
        if name in SERVERS:
            return dict(zip(SERVERS, servers.running(self._run_dir.parent), strict=True))[name] is not None
        found = self.find(name)
        return bool(found) and report.is_ready(self._run_dir / f"{name}.report", found[0].pid)

    def away(self) -> list[str]:
        """The names of those that are not ready."""
        return [name for name in SERVERS + PROCESSES if not self.is_ready(name)]


def send(processes: list[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to each that still runs; psutil sees to it that no other has its process id by now."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
