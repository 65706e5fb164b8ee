"""A CLOCK_REALTIME that shows another moment, for a command and all that it starts: the servers and our own programs.

It goes on at its own pace from there. Everything else stays as it is: CLOCK_MONOTONIC and with it every time-out, and
the kernel, so the times of files are those of the machine. It needs Linux and gcc, and no rights.
"""

import os
import platform
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

_SOURCE = Path(__file__).with_name("realtime.c")
_NAME, _LIBRARY = "HOSTILE_REALTIME", "realtime.so"
_OFFSET = struct.Struct("=q")


def realtime_missing() -> str | None:
    """Why the clock cannot be moved here; None if it can."""
    if platform.system() != "Linux":
        return "the clock is moved by LD_PRELOAD, which is Linux's"
    return None if shutil.which("gcc") else "gcc is missing: install it (apt-get install gcc libc6-dev)"


@dataclass(frozen=True, slots=True)
class Realtime:
    """The clock of whatever runs with ``environment`` added to its own. It shows the machine's time until it is set."""

    offset_path: Path
    environment: Mapping[str, str]

    def set(self, moment: datetime) -> None:
        """Let it be ``moment`` (with a time zone) now, for what runs already as well."""
        now_ns = time.clock_gettime_ns(time.CLOCK_REALTIME) - _own_offset_ns()  # the machine's
        _write(self.offset_path, int(moment.timestamp() * 1_000) * 1_000_000 - now_ns)


def own_realtime() -> Realtime | None:
    """The clock that this process itself runs under."""
    path = os.environ.get(_NAME)
    return None if path is None else Realtime(Path(path), {})


@contextmanager
def realtime() -> Iterator[Realtime]:
    """A clock of its own, for as long as the block lasts. What uses it must have ended by then.

    Raises OSError or CalledProcessError where it cannot be made; ``realtime_missing`` says so before.
    """
    with tempfile.TemporaryDirectory(prefix="hostile-clock-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # as root, Postgres runs under another account
        library, offset_path = folder / _LIBRARY, folder / "offset"
        flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["gcc", *flags, "-o", library, _SOURCE, "-ldl"], check=True, timeout=60)
        _write(offset_path, 0)
        for path in (library, offset_path):
            path.chmod(0o644 if path is offset_path else 0o755)
        others = [name for name in os.environ.get("LD_PRELOAD", "").split(":") if name and Path(name).name != _LIBRARY]
        yield Realtime(offset_path, {"LD_PRELOAD": ":".join([str(library), *others]), _NAME: str(offset_path)})


def _own_offset_ns() -> int:
    """How far the clock of this process is from the machine's."""
    own = own_realtime()
    return 0 if own is None else int(_OFFSET.unpack(own.offset_path.read_bytes())[0])


def _write(path: Path, ns: int) -> None:
    """In one write of eight bytes, in place: others map the file."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT), "wb", buffering=0) as file:
        file.write(_OFFSET.pack(ns))
