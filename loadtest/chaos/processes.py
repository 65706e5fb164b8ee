"""The engine's processes by name: to be found, killed, stopped and continued. Never a process of anybody else."""

import contextlib
import signal
from pathlib import Path

import psutil

from engine import embedded, report
from loadtest.chaos.schedule import PROCESSES, SERVERS


class Family:
    """The children of one supervisor. ``run_dir``: where it writes their process ids."""

    def __init__(self, run_dir: Path, supervisor_pid: int) -> None:
        self._run_dir, self._supervisor_pid = run_dir, supervisor_pid

    def find(self, name: str) -> list[psutil.Process]:
        """A child and all below it, the child first; empty while it does not run."""
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            process = psutil.Process(int((self._run_dir / f"{name}.pid").read_text()))
            if process.ppid() == self._supervisor_pid and process.status() != psutil.STATUS_ZOMBIE:
                return [process, *process.children(recursive=True)]
        return []

    def away(self) -> list[str]:
        """The names of those that do not run, or have not said that they can work."""
        data_dir = self._run_dir.parent
        names = [name for name, url in zip(SERVERS, embedded.running(data_dir), strict=True) if url is None]
        for name in PROCESSES:
            found = self.find(name)
            if not found or not report.is_ready(self._run_dir / f"{name}.report", found[0].pid):
                names.append(name)
        return names


def send(processes: list[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to each that still runs; psutil sees to it that no other has its process id by now."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
