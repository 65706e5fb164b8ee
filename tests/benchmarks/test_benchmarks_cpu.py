"""CPU accounting, of a child that is known to be busy."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.rig.cpu import Meter, used_s

BUSY_S, TOLERANCE_S = 0.4, 0.02
UNEVEN = 3
"""One start may take this many times the CPU of another: caches are warm or not, the processor slow or fast."""
WAITS = "print(flush=True); input()"
ITSELF = f"import sys, time\nwhile time.process_time() < float(sys.argv[1]): pass\n{WAITS}\n"
LIVE_CHILD = f"""
import subprocess, sys
argv = [sys.executable, "-c", {ITSELF!r}, sys.argv[1]]
child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
{WAITS}
child.communicate(b"\\n")
"""
ENDED_CHILD = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {ITSELF!r}, sys.argv[1]], input=b"\\n", stdout=subprocess.DEVNULL)
{WAITS}
"""


@contextmanager
def program(code: str, busy_s: float = 0.0) -> Iterator[subprocess.Popen[bytes]]:
    """Run code that says when it has done its work, for so long, and then waits for a line."""
    argv = [sys.executable, "-c", code, str(busy_s)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            yield process
        finally:
            process.communicate(b"\n")


@pytest.mark.parametrize("code", [ITSELF, LIVE_CHILD, ENDED_CHILD], ids=["itself", "live child", "ended child"])
def test_a_tree_is_charged_once_for_what_it_used(code: str) -> None:
    """And for its start, which without any work is measured first."""
    with program(code) as process:
        start_s_max = UNEVEN * (used_s(process.pid) + TOLERANCE_S)
    busy_s = max(BUSY_S, 2 * start_s_max)
    with program(code, busy_s) as process:
        assert busy_s - TOLERANCE_S <= used_s(process.pid) <= busy_s + start_s_max


def test_a_process_that_is_gone_uses_nothing() -> None:
    with program(WAITS) as process:
        pass
    assert used_s(process.pid) == 0.0


def test_a_meter_counts_from_its_start_and_tells_the_rest_apart() -> None:
    with program(WAITS) as idle:
        meter = Meter({"idle": [idle.pid]})
        with program(ITSELF, BUSY_S) as busy:
            spent_s = used_s(busy.pid)
            found = meter.stop(measured=spent_s)
        later = Meter({"idle": [idle.pid]})
        with program(ITSELF, BUSY_S):
            unnamed = later.stop()
    assert found["idle"] < BUSY_S / 4
    assert found["measured"] == spent_s
    assert unnamed["other"] >= BUSY_S - 0.05, "what nobody is named for is somebody else's"
