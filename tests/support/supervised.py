"""A program for tests: a supervisor over the children its arguments name, printing their process ids when all run.

``supervised.py RUN_DIR sleeper|stubborn ...`` or ``supervised.py RUN_DIR servers``, which runs the embedded servers.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from engine.embedded import servers
from engine.supervision import tether
from engine.supervision.service import Worker
from engine.supervision.supervisor import Supervisor
from tests.support.fast_postgres import UNSAFE_BUT_FAST

SLEEPER = "import time; time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"


def worker(name: str) -> Worker:
    """A child that ends on SIGTERM, or (``stubborn``) does not."""
    code = STUBBORN if name == "stubborn" else SLEEPER
    return Worker(name=name, argv=(sys.executable, "-c", code), stop_timeout_s=0.5)


@contextmanager
def supervised(data_dir: Path, *names: str) -> Iterator[subprocess.Popen[str]]:
    """Run this program; the block begins when its children run, and nothing of it is left after the block.

    Should pytest be killed, the tether kills this program, and so its children.
    """
    tethered = [sys.executable, tether.__file__, str(os.getpid()), str(int(signal.SIGKILL)), "-", "-"]
    program = [*tethered, sys.executable, "-m", "tests.support.supervised", str(data_dir), *names]
    with subprocess.Popen(program, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("{")
            yield process
        finally:
            process.kill()


def is_alive(pid: int) -> bool:
    """Whether the process exists and has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def main(data_dir: Path, names: list[str]) -> None:
    """Run until a stop signal."""
    with servers.hold(data_dir) as held:
        async with Supervisor(data_dir / "run") as supervisor:
            if names == ["servers"]:
                await supervisor.start(servers.EmbeddedRedis(held))
                await supervisor.start(servers.EmbeddedPostgres(held, options=UNSAFE_BUT_FAST))
            else:
                await supervisor.start(*[worker(name) for name in names])
            sys.stdout.write(json.dumps(supervisor.pids()) + "\n")
            sys.stdout.flush()
            await supervisor.wait()
        sys.stdout.write("stopped\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
