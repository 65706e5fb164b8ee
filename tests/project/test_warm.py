"""The process that tests fork commands and servers off: it has imported what they need, and says how they ended."""

import os
import signal
from pathlib import Path

import pytest

from tests.support.warm import warm

LATE = """
import os, sys
os.environ |= {"HONGBAO_REDIS_URL": "redis://127.0.0.1:1", "HONGBAO_DATABASE_URL": "postgresql://postgres@127.0.0.1:1/x"}
from engine.__main__ import main
before = set(sys.modules)
sys.stderr = open(os.devnull, "w")
try:
    main()
finally:
    ours = [name for name in sys.modules if name not in before and name.partition(".")[0] in ("engine", "api")]
    os.write(2, f"{ours}".encode())
"""
COMMANDS = (
    "audit",
    "doctor",
    "migrate",
    "persist",
    "quarantine list",
    "reconcile",
    "recover",
    "serve",
    "sweep",
    "token --user bob",
    "verify absent",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_forked_imports_nothing_of_ours(command: str, tmp_path: Path) -> None:
    forked = warm().start(LATE, *command.split(), "--data-dir", str(tmp_path))
    forked.join(30)
    assert forked.said() == "[]"


async def test_how_a_forked_process_ends_is_known() -> None:
    ended = warm().start("import sys; sys.stderr.write(f'{sys.argv[1:]}'); sys.exit(3)", "a", "b")
    assert await ended.wait() == 3
    assert (ended.returncode, ended.said()) == (3, "['a', 'b']")
    endless = warm().start("import signal; signal.pause()")
    assert endless.returncode is None
    assert endless.pid not in (os.getpid(), ended.pid)
    endless.kill()
    assert await endless.wait() == -signal.SIGKILL
    endless.kill()  # by now anybody's number
