"""What a machine may lack for a test, and the one form in which a skipped test says so: ``needs wrk (command)``.

A test says what it needs with a mark: ``@pytest.mark.root``, ``@pytest.mark.programs("wrk")``. What shows only while
it runs is said with ``skip_for_want_of``. In continuous integration nothing may be missing: there the test fails.

``python -m tests.support.needs`` prints the packages that are missing, for ``apt-get install``.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

MARKS = (
    "root: needs root, makes the account hongbao and writes below /var/lib/hongbao",
    "programs(*names): needs programs of the machine on PATH",
    "browser: needs Chromium and a Chinese font (make test-browser)",
)
AS_ROOT = "sudo .venv/bin/python -m pytest -m root"
_PACKAGES = {
    "chromium": "chromium",
    "curl": "curl",
    "go": "golang-go golang-github-valyala-fasthttp-dev golang-github-gomodule-redigo-dev",
    "pgbouncer": "pgbouncer",
    "prometheus": "prometheus",
    "redis-server": "redis-server",
    "sha256sum": "coreutils",
    "unshare": "util-linux",
    "wrk": "wrk",
}
"""Which package of Debian and its kin has a program."""
_CHINESE_FONT = "fonts-noto-cjk"
"""Without one, a browser draws boxes for Chinese text."""


_REASON = re.compile(r"needs (?P<what>.+?) \((?P<command>.+)\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Need:
    """What is missing, and the command that gets it."""

    what: str
    command: str


def need_in(reason: str) -> Need | None:
    """The need that a skipped test's reason names; None if it was skipped for something else."""
    found = _REASON.fullmatch(reason)
    return None if found is None else Need(found["what"], found["command"])


def is_ci() -> bool:
    """Whether this is continuous integration, which installs what the tests need (``.ci/run``)."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def skip_for_want_of(what: str, command: str) -> NoReturn:
    """Skip the running test for want of ``what``; ``command`` is what gets it. The run's last lines list both."""
    reason = f"needs {what} ({command})"
    if is_ci():
        pytest.fail(f"{reason}; continuous integration must have it", pytrace=False)
    pytest.skip(reason)


def skip_without_tool(what: str, command: str) -> NoReturn:
    """The same for a tool that continuous integration may lack: other tests check the same files without it."""
    pytest.skip(f"needs {what} ({command})")


def needs_program(name: str) -> Path:
    """Where a program of the machine is; the test is skipped if it is not on PATH."""
    found = shutil.which(name)
    if found is None:
        skip_for_want_of(name, f"apt-get install {_PACKAGES[name]}")
    return Path(found)


def needs_browser() -> Path:
    """Where Chromium is; the test is skipped if it or a Chinese font is missing."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None or not has_chinese_font():
        skip_for_want_of("Chromium and a Chinese font", f"apt-get install chromium {_CHINESE_FONT}")
    return Path(found)


def needs_root() -> None:
    """Skip the test if we are not root."""
    if os.geteuid() != 0:
        skip_for_want_of("root", AS_ROOT)


def has_chinese_font() -> bool:
    """Whether the machine can draw Chinese text."""
    lists = shutil.which("fc-list")
    return lists is not None and _lists_chinese(lists)


@cache  # only what a program says: a test that changes PATH for a moment must not be remembered
def _lists_chinese(lists: str) -> bool:
    return bool(subprocess.run([lists, ":lang=zh"], capture_output=True, check=False).stdout.strip())


def check_marks(item: pytest.Item) -> None:
    """Skip the test if the machine lacks what its marks name."""
    if item.get_closest_marker("root") is not None:
        needs_root()
    if item.get_closest_marker("browser") is not None:
        needs_browser()
    for mark in item.iter_markers("programs"):
        for name in mark.args:
            needs_program(name)


def missing_packages() -> list[str]:
    """The packages of all programs that are not on PATH, each once, and of the Chinese font if there is none."""
    packages = {package for program, package in _PACKAGES.items() if shutil.which(program) is None}
    return sorted(packages if has_chinese_font() else packages | {_CHINESE_FONT})


if __name__ == "__main__":
    sys.stdout.write(" ".join(missing_packages()) + "\n")
