"""The process that tests fork commands and servers off: it has imported what they need, and says how they ended."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.warm import started, warm

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
OURS = "sorted(name for name in sys.modules if name.partition('.')[0] in ('engine', 'api'))"
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


def test_what_is_forked_for_a_shell_has_imported_what_a_start_imports_and_no_more() -> None:
    """So what a command imports once it runs is imported in the order in which a stranger's does."""
    forked = started().start(f"import sys; sys.stderr.write(str({OURS}))")
    forked.join(30)
    code = f"import sys, engine.__main__ as one; one.make_starts_cheap(); import engine.cli.main; print({OURS}, end='')"
    fresh = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=60, check=True
    ).stdout
    assert forked.said() == fresh


def test_a_shell_has_its_streams_its_folder_and_its_exit_code(tmp_path: Path) -> None:
    script = f"""
    hongbao() {{ {started().program()}; }}
    TEXT=$(hongbao --help | head -2)
    hongbao verify absent.json >out.txt 2>err.txt || echo $? "$TEXT"
    hongbao no-such-command 2>>err.txt || echo $?
    """
    ended = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        pass_fds=[started().requests.fileno()],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    assert ended.stderr == ""
    first, usage, last = ended.stdout.replace("\n\n", "\n").splitlines()
    assert (first.strip(), usage.strip(), last) == ("1", "Usage: hongbao [OPTIONS] COMMAND [ARGS]...", "2")
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == ""
    said = (tmp_path / "err.txt").read_text(encoding="utf-8")
    assert "absent.json" in said
    assert "no-such-command" in said
