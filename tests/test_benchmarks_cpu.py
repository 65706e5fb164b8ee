"""CPU accounting, of a child that is known to be busy."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.cpu import Meter, used_s

BUSY_S = 0.4
SPIN = f"import time\nwhile time.process_time() < {BUSY_S}: pass\n"
WAITS = "print(flush=True); input()"
ITSELF = SPIN + WAITS
LIVE_CHILD = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {ITSELF!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
{WAITS}
child.communicate(b"\\n")
"""
ENDED_CHILD = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {SPIN!r}])
{WAITS}
"""
TOLERANCE_S = 0.25
"""Starting an interpreter or two takes CPU as well."""


@contextmanager
def program(code: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run code that says when it has done its work and then waits for a line."""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            yield process
        finally:
            process.communicate(b"\n")


def test_a_process_is_charged_what_it_used() -> None:
    with program(ITSELF) as process:
        assert BUSY_S - 0.02 <= used_s(process.pid) <= BUSY_S + TOLERANCE_S


def test_a_child_that_runs_is_charged_to_its_tree() -> None:
    with program(LIVE_CHILD) as process:
        assert BUSY_S - 0.02 <= used_s(process.pid) <= BUSY_S + 2 * TOLERANCE_S


def test_a_child_that_has_ended_is_charged_once() -> None:
    with program(ENDED_CHILD) as process:
        assert BUSY_S - 0.02 <= used_s(process.pid) <= BUSY_S + 2 * TOLERANCE_S


def test_a_process_that_is_gone_uses_nothing() -> None:
    with program(WAITS) as process:
        pass
    assert used_s(process.pid) == 0.0


def test_a_meter_counts_from_its_start_and_tells_the_rest_apart() -> None:
    with program(WAITS) as idle:
        meter = Meter({"idle": [idle.pid]})
        with program(ITSELF) as busy:
            spent_s = used_s(busy.pid)
            found = meter.stop(measured=spent_s)
        later = Meter({"idle": [idle.pid]})
        with program(ITSELF):
            unnamed = later.stop()
    assert found["idle"] < 0.05
    assert found["measured"] == spent_s
    assert unnamed["other"] >= BUSY_S - 0.05, "what nobody is named for is somebody else's"
