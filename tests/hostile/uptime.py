"""A machine that has just been started: CLOCK_MONOTONIC and CLOCK_BOOTTIME near zero, for a command and its children.

It is a time namespace of Linux, so every process, server and wait in it goes by the same clock, and the machine's own
stays as it is. It needs root and ``unshare`` of util-linux 2.37 or newer.
"""

import math
import os
import shutil
import subprocess
import time
from pathlib import Path

_OFFSETS = Path("/proc/self/timens_offsets")


def uptime_missing() -> str | None:
    """Why the command cannot be run just after boot here; None if it can."""
    if shutil.which("unshare") is None or not hasattr(time, "CLOCK_BOOTTIME"):
        return "unshare is missing: install util-linux 2.37 or newer (Linux)"
    if not _OFFSETS.exists():
        return "this kernel has no time namespaces"
    if os.geteuid() != 0:
        return "a time namespace needs root"
    tried = subprocess.run([*uptime_prefix(1), "true"], capture_output=True, encoding="utf-8", check=False, timeout=10)
    return None if tried.returncode == 0 else f"no time namespace here: {tried.stderr.strip()}"


def uptime_prefix(uptime_s: int) -> tuple[str, ...]:
    """What goes before a command's words so that it begins ``uptime_s`` to ``uptime_s + 1`` seconds after boot."""
    offsets = {
        name: uptime_s - math.floor(time.clock_gettime(clock)) + offset_s
        for (name, offset_s), clock in zip(_own_offsets_s(), (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME), strict=True)
    }
    return ("unshare", "--time", *(f"--{name}={offset_s}" for name, offset_s in offsets.items()), "--")


def _own_offsets_s() -> list[tuple[str, int]]:
    """By how much this process's clocks differ from the machine's: those of a namespace in another are counted from it.

    A line each: ``monotonic``, then ``boottime``, each with seconds and nanoseconds.
    """
    lines = [line.split() for line in _OFFSETS.read_text(encoding="ascii").splitlines()]
    return [(name, int(seconds)) for name, seconds, _ in lines]
