"""The machines of `make test-hostile`: each is what it says, and what was found on it is told."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from tests.hostile.__main__ import main, run
from tests.hostile.machines import MACHINES, Machine, Place
from tests.hostile.user import checkout_of_user, user_missing
from tests.support.repository import ROOT

_BROKEN = """
def test_it_holds():
    pass

def test_it_does_not():
    assert False
"""


def test_the_tests_that_can_tell_are_there() -> None:
    assert [path for machine in MACHINES for path in machine.paths if not (ROOT / path).is_file()] == []
    assert len({machine.name for machine in MACHINES}) == len(MACHINES)


@pytest.mark.long
def test_what_a_run_found_is_told(tmp_path: Path) -> None:
    @contextmanager
    def place(_root: Path) -> Iterator[Place]:
        yield Place(folder=tmp_path)

    (tmp_path / "test_some.py").write_text(_BROKEN, encoding="utf-8")
    machine = Machine(name="some", what="a machine", tests="", place=place)
    console = Console(quiet=True)
    result = run(machine, ["-n", "0", f"--rootdir={tmp_path}", str(tmp_path)], tmp_path / "log", console)
    assert not result.is_green
    assert next(result.lines()).startswith("  RED: 1 failed, 1 passed, ")
    assert any("test_some.py::test_it_does_not" in line for line in result.lines())
    chosen = ["-n", "0", f"--rootdir={tmp_path}", str(tmp_path), "-k", "holds"]
    assert run(machine, chosen, tmp_path / "log", console).is_green
    missing = Machine(name="some", what="", tests="", place=place, missing=lambda: "it is not here")
    assert list(run(missing, [], tmp_path / "log", console).lines()) == ["  not tried: it is not here"]


def test_a_machine_that_is_unknown_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--only", "martian"])
    assert ended.value.code == 2
    assert "there is no 'martian'; there are: young, midnight" in capsys.readouterr().err


def test_nobody_is_not_root_and_has_a_checkout_of_its_own() -> None:
    if reason := user_missing():
        pytest.skip(reason)
    code = "import os, engine; print(os.geteuid(), engine.__path__[0], os.access('README.md', os.W_OK))"
    with checkout_of_user(ROOT) as checkout:
        printed = subprocess.run(
            [*checkout.prefix, sys.executable, "-c", code],
            cwd=checkout.folder,
            env=os.environ | checkout.environment,
            capture_output=True,
            encoding="utf-8",
            check=True,
            timeout=60,
        ).stdout.split()
        assert printed[0] != "0"
        assert printed[1:] == [str(checkout.folder / "engine"), "True"]
    assert not checkout.folder.exists()
