"""CPU seconds of running processes, to see whether the test or the engine was busy."""

import contextlib
from pathlib import Path

import psutil


def of_tree(pid: int) -> dict[int, float]:
    """CPU seconds so far by process id, of a process and its descendants. Empty if it has ended."""
    seconds = {}
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                seconds[process.pid] = times.user + times.system
    return seconds


def of_installation(run_dir: Path) -> dict[int, float]:
    """CPU seconds so far by process id, of every process of `hongbao up`. Empty if none runs here."""
    seconds: dict[int, float] = {}
    for path in run_dir.glob("*.pid"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            seconds |= of_tree(int(path.read_text(encoding="utf-8").split()[0]))
    return seconds


def of_parts(run_dir: Path) -> dict[str, float]:
    """CPU seconds so far by the name of each part of `hongbao up` ("serve-1", "persist", ...), with its descendants."""
    seconds: dict[str, float] = {}
    for path in run_dir.glob("*.pid"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            found = of_tree(int(path.read_text(encoding="utf-8").split()[0]))
            seconds[path.stem] = sum(found.values())
    return seconds
