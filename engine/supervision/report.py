"""What one of our processes says of itself to its supervisor, in one small file.

``ready <process id>`` once it can do its work; or, as the last thing it does, the sentence why it cannot. An exit code
alone would not tell a wrong URL from a bug, and "still alive" would not tell ready from about to fail.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import HongbaoError


class Report:
    """The writing side. Without a path nobody listens: nothing is written, and errors go on to the command line."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def ready(self) -> None:
        """Say that this process can do its work."""
        self._write(_ready(os.getpid()))

    @contextmanager
    def complaining(self) -> Iterator[None]:
        """Leave an error's sentence in the file and exit with 1, silently: the supervisor prints it."""
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
    """Whether this very process has said that it is ready."""
    return _read(path) == _ready(pid)


def complaint(path: Path) -> str:
    """Why the last process to use the file could not run; empty if it did not say."""
    said = _read(path)
    return "" if said.startswith(_ready("")) else said


def _ready(pid: int | str) -> str:
    return f"ready {pid}"


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""
