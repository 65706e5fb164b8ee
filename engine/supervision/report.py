"""A process's report to its supervisor, in one small file.

It is ``ready <process id>`` once the process can work or, if it cannot, one sentence that says why. An exit code alone
could not distinguish a wrong URL from a bug, and "still alive" could not distinguish ready from about to fail.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import HongbaoError


class Report:
    """The writing side. Without a path it writes nothing, and errors go to the command line."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def ready(self) -> None:
        """Report that this process can work."""
        self._write(_ready(os.getpid()))

    @contextmanager
    def complaining(self) -> Iterator[None]:
        """Write an error's sentence to the file and exit with 1. The supervisor prints it."""
        try:
            yield
        except HongbaoError as error:
            if self._path is None:
                raise
            self._write(str(error))
            raise SystemExit(1) from None

    def _write(self, text: str) -> None:
        if self._path is not None:
            self._path.write_text(text, encoding="utf-8", errors="replace")


def is_ready(path: Path, pid: int) -> bool:
    """Whether this very process has reported that it is ready."""
    return _read(path) == _ready(pid)


def complaint(path: Path) -> str:
    """Why the last process that used the file could not run. Empty if it did not report it."""
    said = _read(path)
    return "" if said.startswith(_ready("")) else said


def _ready(pid: int | str) -> str:
    return f"ready {pid}"


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""
