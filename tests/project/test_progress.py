"""What a person sees of a run of the tests."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.needs import Need, missing_packages, need_in
from tests.support.progress import duration, skipped_lines

_CONFTEST = """
from tests.support.progress import Progress

def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Progress(config))
"""
_TESTS = """
import pytest
from tests.support.needs import skip_for_want_of

@pytest.mark.parametrize("number", range({count}))
def test_it(number):
    if number == 1:
        pytest.fail("broken")
    if number in (2, 3):
        skip_for_want_of("a dragon", "apt-get install dragon")
    if number == 4:
        pytest.skip("not on Mondays")
"""


def run(folder: Path, *words: str, count: int = 120, **variables: str) -> "subprocess.CompletedProcess[str]":
    (folder / "conftest.py").write_text(_CONFTEST, encoding="utf-8")
    (folder / "test_some.py").write_text(_TESTS.format(count=count), encoding="utf-8")
    plugins = ["-p", "no:cacheprovider", "-p", "xdist.plugin"]  # to load all that are installed takes seconds
    argv = [sys.executable, "-m", "pytest", *plugins, f"--rootdir={folder}", *words, str(folder)]
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | variables
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return subprocess.run(argv, env=environment, capture_output=True, encoding="utf-8", timeout=120, check=False)


@pytest.mark.long
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_says_how_far_it_is_what_failed_and_what_is_missing(tmp_path: Path, workers: str) -> None:
    finished = run(tmp_path, "-n", workers)
    assert finished.returncode == 1
    lines = finished.stdout.splitlines()
    assert len([line for line in lines if " of 120 tests, " in line]) == 20
    assert "100 %  120 of 120 tests, 1 failed" in finished.stdout
    assert lines.index("FAILED test_some.py::test_it[1]") < next(n for n, line in enumerate(lines) if "100 %" in line)
    assert sum(line.startswith("FAILED ") for line in lines) == 2  # at once, and in the summary
    assert lines[-3:-1] == [
        "2 tests skipped for want of a dragon: apt-get install dragon",
        "1 test skipped: not on Mondays",
    ]
    assert "1 failed, 116 passed, 3 skipped" in lines[-1]


def test_a_few_tests_are_shown_as_ever(tmp_path: Path) -> None:
    finished = run(tmp_path, count=6)
    assert "[100%]" in finished.stdout
    assert " of 6 tests" not in finished.stdout
    assert "2 tests skipped for want of a dragon: apt-get install dragon" in finished.stdout


def test_nothing_may_be_missing_in_continuous_integration(tmp_path: Path) -> None:
    finished = run(tmp_path, count=6, CI="true")
    assert "3 failed, 2 passed, 1 skipped" in finished.stdout
    assert "needs a dragon (apt-get install dragon); continuous integration must have it" in finished.stdout


def test_reasons_are_counted_and_read() -> None:
    reasons = Counter({"needs wrk (apt-get install wrk)": 2, "no gcc": 1})
    assert skipped_lines(reasons) == ["2 tests skipped for want of wrk: apt-get install wrk", "1 test skipped: no gcc"]
    assert need_in("needs root (sudo make (really))") == Need("root", "sudo make (really)")
    assert need_in("needs root") is None


def test_durations_are_said_as_people_say_them() -> None:
    assert [duration(seconds) for seconds in (0.4, 59.4, 59.6, 245.2)] == ["0 s", "59 s", "1 min 00 s", "4 min 05 s"]


def test_packages_are_named_for_the_programs_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert {"wrk", "redis-server"} <= set(missing_packages())
