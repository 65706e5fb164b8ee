"""CPU time of process trees by the kernel's account (user and system, all threads, ended children)."""

from collections.abc import Mapping, Sequence

import psutil


def used_s(pid: int) -> float:
    """CPU seconds of a process, its descendants, and its children that have ended and been waited for."""
    try:
        root = psutil.Process(pid)
        members = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    total_s = 0.0
    for member in members:
        try:
            times = member.cpu_times()
        except psutil.NoSuchProcess:  # it has ended: its parent's accounts have it now
            continue
        # An ended child counts with the parent that waited for it, so nothing is counted twice.
        total_s += times.user + times.system + times.children_user + times.children_system
    return total_s


def busy_s() -> float:
    """CPU seconds that all programs on this machine have used, on all cores."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - _counted_twice(times))


def _counted_twice(times: object) -> float:
    """A guest's time: Linux also counts it as the user's."""
    return float(getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0))


class Meter:
    """Measures the CPU time of named process trees between two moments. ``other``: everything else on the machine."""

    def __init__(self, trees: Mapping[str, Sequence[int]]) -> None:
        self._trees = trees
        self._busy_s = busy_s()
        self._before_s = self._read()

    def _read(self) -> dict[str, float]:
        return {name: sum(used_s(pid) for pid in pids) for name, pids in self._trees.items()}

    def stop(self, **measured_s: float) -> dict[str, float]:
        """CPU seconds by name since the meter was made. ``measured_s`` adds trees that were measured elsewhere."""
        after_s = self._read()
        used = {name: after_s[name] - self._before_s[name] for name in self._trees} | measured_s
        used["other"] = max(0.0, busy_s() - self._busy_s - sum(used.values()))
        return used
