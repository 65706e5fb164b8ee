"""`make test-hostile`: the tests that can tell, on machines that are hard on them; what each run was and what it found.

``python -m tests.hostile [--only NAME,...] [--whole] [PYTEST ARGUMENT...]``. ``--whole``: every test in every run.
Exits 0 only if every run was green. A run that cannot be had here says why and counts as neither.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console

from tests.hostile.machines import MACHINES, Machine
from tests.support.progress import duration
from tests.support.repository import ROOT

_LOOK_S = 1.0
_RUN_S_MAX = 3_600
_RESULT = re.compile(r"^=+ (?P<counts>.*(?:passed|failed|error|no tests ran).*) in [0-9.]+s")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one run. ``failures``: the tests that failed. ``missing``: why it could not be tried."""

    machine: Machine
    counts: str = ""
    failures: tuple[str, ...] = ()
    seconds: float = 0.0
    code: int = 0
    log_path: Path | None = None
    missing: str | None = None

    @property
    def is_green(self) -> bool:
        """Whether nothing was found."""
        return self.code == 0

    def lines(self) -> Iterator[str]:
        """What is printed of it."""
        if self.missing is not None:
            yield f"  not tried: {self.missing}"
            return
        colour = "green" if self.is_green else "RED"
        yield f"  {colour}: {self.counts or 'pytest did not end'}, {duration(self.seconds)}"
        yield from (f"    {failure}" for failure in self.failures)
        if not self.is_green:
            yield f"    all of it: {self.log_path}"


def run(machine: Machine, words: Sequence[str], log_path: Path, console: Console) -> Result:
    """Run the tests on one machine to their end, showing how far they are."""
    if (missing := machine.missing()) is not None:
        return Result(machine, missing=missing)
    began_s = time.monotonic()
    with ExitStack() as stack:
        place = stack.enter_context(machine.place(ROOT))
        workers = ["-n", "auto", "--dist", "worksteal"] if machine.has_workers else ["-n", "0"]
        argv = [*place.prefix, sys.executable, "-m", "pytest", *workers]
        environment = {name: value for name, value in os.environ.items() if name != "CI"} | place.environment
        log = stack.enter_context(log_path.open("wb"))
        process = stack.enter_context(
            subprocess.Popen([*argv, *words], cwd=place.folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        )
        stack.enter_context(_ending(process))
        _follow(process, machine, log_path, console)
    text = log_path.read_text(encoding="utf-8", errors="replace")
    counts = [found["counts"] for line in text.splitlines() if (found := _RESULT.match(line))]
    failures = tuple(dict.fromkeys(line for line in text.splitlines() if line.startswith(("FAILED ", "ERROR "))))
    return Result(
        machine,
        counts=counts[-1] if counts else "",
        failures=failures,
        seconds=time.monotonic() - began_s,
        code=process.returncode,
        log_path=log_path,
    )


@contextmanager
def _ending(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Tell it to stop if the block is left before it has ended: its servers stop with it."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()


def _follow(process: "subprocess.Popen[bytes]", machine: Machine, log_path: Path, console: Console) -> None:
    with console.status(machine.name) as status:
        deadline_s = time.monotonic() + _RUN_S_MAX
        while time.monotonic() < deadline_s:
            try:
                process.wait(_LOOK_S)
            except subprocess.TimeoutExpired:
                status.update(f"{machine.name}: {_last_line(log_path)}")
            else:
                return


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line for line in reversed(lines) if " tests, " in line), "starting")


def main(words: list[str]) -> int:
    """The command line's."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description="The tests on hostile machines.")
    names = [machine.name for machine in MACHINES]
    parser.add_argument("--only", default="", help=f"which, with commas: {', '.join(names)}")
    parser.add_argument("--whole", action="store_true", help="every test in every run, which takes an hour")
    options, rest = parser.parse_known_args(words)
    only = [name.strip() for name in options.only.split(",") if name.strip()]
    if unknown := [name for name in only if name not in names]:
        parser.error(f"there is no {unknown[0]!r}; there are: {', '.join(names)}")
    console, results = Console(highlight=False, soft_wrap=True), []
    folder = Path(tempfile.mkdtemp(prefix="hostile-logs-"))
    for machine in MACHINES:
        if only and machine.name not in only:
            continue
        console.print(f"{machine.name}: {machine.what}", markup=False)
        # A clock that is set back for each test is for tests that share no engine.
        tests = [] if options.whole and machine.has_workers else machine.paths
        result = run(machine, [*machine.words, *tests, *rest], folder / f"{machine.name}.log", console)
        results.append(result)
        for line in result.lines():
            console.print(line, markup=False)
    red = [result.machine.name for result in results if not result.is_green]
    tried = sum(result.missing is None for result in results)
    ending = f"red: {', '.join(red)}" if red else "all green"
    console.print(f"{tried} machines tried, {len(results) - tried} not tried; {ending}", markup=False)
    if not red:
        shutil.rmtree(folder)
    return 1 if red else 0


def _end(number: int, _frame: FrameType | None) -> None:
    """SIGTERM as an exception, so that the run under way is ended as well."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
