"""Where the tests' own databases go, and what runs that were killed left there."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.embedded import servers
from tests.support import database_folder


def with_free(monkeypatch: pytest.MonkeyPatch, room_bytes: int, memory_bytes: int) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": room_bytes}))
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": memory_bytes}))


def test_memory_is_taken_if_there_is_enough_for_every_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enough = 3 * database_folder.BYTES_A_WORKER
    with_free(monkeypatch, enough, enough)
    assert database_folder.choose(3, tmp_path)[0] == tmp_path
    folder, line = database_folder.choose(4, tmp_path)
    assert folder is None
    assert line.endswith("has 2,304 MiB free, and 4 x 768 are wanted")
    with_free(monkeypatch, enough, enough - 1)  # room that the machine has no memory for
    assert database_folder.choose(3, tmp_path)[0] is None
    assert database_folder.choose(1, tmp_path / "absent")[0] is None


def test_only_what_killed_runs_left_is_removed(tmp_path: Path) -> None:
    ours, fresh, stranger = (database_folder.make(tmp_path) for _ in range(3))
    (stranger / "run").mkdir()
    (stranger / "run" / "lock").write_text("1\n", encoding="utf-8")  # of a process that lives
    code = "import sys; from pathlib import Path; from tests.support import database_folder as f\n"
    code += "from engine.embedded import servers\n"
    code += "with servers.hold(f.make(Path(sys.argv[1]))): print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        run.stdout.readline()
        with servers.hold(ours):
            assert database_folder.remove_leftovers(tmp_path) == []
            run.kill()
            run.wait()
            (left,) = database_folder.remove_leftovers(tmp_path)
    assert not left.exists()
    assert set(tmp_path.iterdir()) == {ours, fresh, stranger}
