"""`make demo`: a storm over real HTTP on its own servers, with processes killed in the middle, and a final audit.

``python -m loadtest.demo --nodes 3`` has a Redis Cluster of three masters with a replica each, and kills a master, too.
Exits 0 only if every amount in an answer is in the ledger, once, and the audit is clean.
"""

import argparse
import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import orjson
from rich.console import Console

from engine.calendar.china_time import today
from engine.observability.terminal import print_anything
from loadtest.demo import pictures, report
from loadtest.demo.story import FULL, Sizes, Story, play
from loadtest.running import NotStartedError, Running, running
from loadtest.steps import Steps
from loadtest.told import ContradictionError

_AUDIT_S_MAX = 60
_LOG_LINES_TOLD = 5


def main(
    sizes: Sizes = FULL,
    before_audit: Callable[[Running, Story], None] | None = None,
    redis_nodes: int = 1,
    folder: Path = pictures.FOLDER,
) -> int:
    """Play it and return the exit code. ``before_audit`` is for tests: it is called while the engine runs.

    ``folder``: where the pictures go.
    """
    print_anything()
    console = Console()
    try:
        return _played(console, sizes, before_audit, redis_nodes, folder)
    except NotStartedError as error:
        console.print(f"The engine did not start: {error}", markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("Stopped; nothing is left running.")
        return 128 + signal.SIGINT


def _played(
    console: Console,
    sizes: Sizes,
    before_audit: Callable[[Running, Story], None] | None,
    redis_nodes: int,
    folder: Path,
) -> int:
    started_s, begun = time.monotonic(), today()
    redis = "Redis" if redis_nodes == 1 else f"{redis_nodes} Redis masters with a replica each"
    console.print(f"Starting {redis}, Postgres, the persister, the sweeper and two API processes ...", soft_wrap=True)
    with running(workers=2, redis_nodes=redis_nodes) as engine:
        console.print(f"Ready on {engine.base_url} after {time.monotonic() - started_s:.1f} s.", highlight=False)
        try:
            with Steps(console) as steps:
                story = asyncio.run(play(engine, sizes, steps, has_cluster=redis_nodes > 1))
        except ContradictionError as error:
            log = "\n".join(engine.log().splitlines()[-_LOG_LINES_TOLD:])
            console.print(f"FAILED {error}\nThe end of the log:\n{log}", markup=False, highlight=False)
            return 1
        if before_audit is not None:
            before_audit(engine, story)
        exit_code = conclude(console, engine, story)
        for line in pictures.draw(engine.data_dir, begun, folder):
            console.print(line, markup=False, highlight=False, soft_wrap=line.startswith("file:"))
    console.print(f"The whole took {time.monotonic() - started_s:.0f} s.")
    return exit_code


def conclude(console: Console, engine: Running, story: Story) -> int:
    """Audit the books, show the story, and return the exit code."""
    findings = _audit(engine, story)
    report.show(console, story, findings)
    return 0 if not story.problems and all(finding["holds"] for finding in findings) else 1


def _audit(engine: Running, story: Story) -> list[dict[str, object]]:
    """The findings of `hongbao audit`. If it cannot run or has nothing to examine, this is a problem of the story."""
    words = [sys.executable, "-m", "engine", "audit", "--json", "--data-dir", str(engine.data_dir)]
    audited = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=_AUDIT_S_MAX, check=False)
    try:
        findings: list[dict[str, object]] = orjson.loads(audited.stdout)
    except orjson.JSONDecodeError:
        findings = []
    if not findings:
        story.problems.append(f"the audit did not run: {audited.stderr.strip()}")
    return findings


def _end(number: int, _frame: FrameType | None) -> None:
    """Turn SIGTERM into an exception, so that everything that was started is stopped."""
    sys.exit(128 + number)


def _redis_nodes(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.demo", description="A storm with kills; then the books.")
    parser.add_argument("--nodes", type=int, choices=range(1, 10), default=1, help="Redis masters (default: 1)")
    nodes: int = parser.parse_args(words).nodes
    return nodes


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main(redis_nodes=_redis_nodes(sys.argv[1:])))
