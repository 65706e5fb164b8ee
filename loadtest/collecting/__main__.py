"""``python -m loadtest.collecting``: 200,000 collectors on servers of its own, and a pool that 100,000 of them share.

Exits 0 only if each completer has exactly one share, all shares are the pool, and the audit is clean.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import orjson
from rich.console import Console

from engine.engine import Engine
from engine.observability.terminal import print_anything
from engine.running import reach
from engine.settings import Settings
from loadtest.collecting.story import FULL, Sizes, Story, play
from loadtest.running import NotStartedError, Running, running
from loadtest.steps import Steps

_CONNECTIONS = 16
"""To Postgres: this process stands for several of the API's."""
_AUDIT_S_MAX = 900


def main(sizes: Sizes = FULL) -> int:
    """Play it and return the exit code."""
    print_anything()
    console = Console()
    try:
        with running(workers=1) as engine, Steps(console) as steps:
            story = asyncio.run(_played(engine, sizes, steps))
            began_s = time.monotonic()
            story.problems += _audit(engine)
            story.took_s["audit"] = time.monotonic() - began_s
    except NotStartedError as error:
        console.print(f"The engine did not start: {error}", markup=False, highlight=False)
        return 1
    show(console, sizes, story)
    return 1 if story.problems else 0


def _audit(engine: Running) -> list[str]:
    """What `hongbao audit` finds. If it cannot run, that is a problem too."""
    words = [sys.executable, "-m", "engine", "audit", "--json", "--data-dir", str(engine.data_dir)]
    audited = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=_AUDIT_S_MAX, check=False)
    try:
        findings: list[dict[str, Any]] = orjson.loads(audited.stdout)
    except orjson.JSONDecodeError:
        findings = []
    if not findings:
        return [f"the audit did not run: {audited.stderr.strip()}"]
    return [problem for finding in findings for problem in finding["problems"]]


async def _played(running_engine: Running, sizes: Sizes, steps: Steps) -> Story:
    settings = reach.running(Settings.load(data_dir=running_engine.data_dir))
    settings = settings.model_copy(update={"database_pool_max": _CONNECTIONS})
    async with Engine.open(settings) as engine:
        return await play(engine, sizes, steps)


def show(console: Console, sizes: Sizes, story: Story) -> None:
    """Print the figures and what is wrong."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    console.print(f"{sizes.users:,} users, {cores} cores (shared with the servers)", highlight=False)
    for name, took_s in story.took_s.items():
        console.print(f"{name}: {took_s:.1f} s", highlight=False)
    answers = ", ".join(f"{name} {count:,}" for name, count in sorted(story.answers.items()))
    console.print(f"answers: {answers}", highlight=False, soft_wrap=True)
    console.print(
        f"{story.shares:,} shares of {story.least_fen} to {story.most_fen} fen, {sizes.pool:,} fen in all, "
        f"drawn and paid {story.drawn_after_s:.1f} s after the time of the draw",
        highlight=False,
        soft_wrap=True,
    )
    for problem in story.problems:
        console.print(f"WRONG {problem}", markup=False, highlight=False, soft_wrap=True)
    console.print("FAILED" if story.problems else "each card and each fen is where it must be", highlight=False)


def _sizes() -> Sizes:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("users", "completers", "gifts", "offers", "late", "seconds", "hands", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(FULL, name), help=f"({getattr(FULL, name)})")
    return replace(FULL, **vars(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main(_sizes()))
