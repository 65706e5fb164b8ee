"""Run a command while clocks show something else:

``python -m tests.hostile.clock [--realtime 2027-12-31T23:59:00+08:00] [--uptime SECONDS] -- COMMAND ARGUMENT...``

``--realtime``: the moment at which it begins. ``--uptime``: how long ago the machine was started when it begins. It
ends with the command's exit code; with 77 and a line that says why where a clock cannot be moved. From Python:

    with realtime() as clock:                     # tests/hostile/realtime.py; realtime_missing() says why it cannot be
        clock.set(datetime(...))                  # also again, while the command runs
        subprocess.run(argv, env=os.environ | clock.environment)
    subprocess.run([*uptime_prefix(2), *argv])    # tests/hostile/uptime.py; uptime_missing() says why it cannot be
"""

import argparse
import os
import subprocess
import sys
from contextlib import ExitStack
from datetime import datetime

from tests.hostile.realtime import realtime, realtime_missing
from tests.hostile.uptime import uptime_missing, uptime_prefix

MISSING = 77
"""The exit code where a clock cannot be moved: what automake and meson call a skipped test."""


def run(argv: list[str], *, moment: datetime | None = None, uptime_s: int | None = None) -> int:
    """Run a command under the clocks that are given and return its exit code."""
    with ExitStack() as stack:
        environment = dict(os.environ)
        if moment is not None:
            clock = stack.enter_context(realtime())
            clock.set(moment)
            environment |= clock.environment
        prefix = () if uptime_s is None else uptime_prefix(uptime_s)
        return subprocess.run([*prefix, *argv], env=environment, check=False).returncode


def main(words: list[str]) -> int:
    """The command line's."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.clock", description="Run a command under clocks.")
    parser.add_argument("--realtime", type=_moment, help="when it begins: ISO 8601, with a time zone")
    parser.add_argument("--uptime", type=int, help="how long after boot it begins, in seconds")
    parser.add_argument("argv", nargs="+", metavar="COMMAND")
    options = parser.parse_args(words)
    missing = [
        reason
        for is_wanted, reason_of in ((options.realtime, realtime_missing), (options.uptime, uptime_missing))
        if is_wanted is not None and (reason := reason_of())
    ]
    if missing:
        print("skipped:", "; ".join(missing), file=sys.stderr)  # noqa: T201  # a command
        return MISSING
    return run(options.argv, moment=options.realtime, uptime_s=options.uptime)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError("a time zone is missing, as +08:00")
    return moment


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
