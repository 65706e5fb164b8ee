"""Where the tests' databases are: in memory if there is room for those of every worker, else on a disk.

A cluster is some 1,300 files, each of its databases some 300. Where a thousand databases are made and dropped in a
row, a disk's file system was seen to take a fifth of all CPU time to find inodes that were not deleted just before.
"""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import psutil
import pytest

from engine.embedded import servers
from engine.errors import OperatorError

MEMORY = Path("/dev/shm")
BYTES_A_WORKER = 768 * 2**20
"""Its write-ahead log takes up to 128 MiB, each of its databases 10, each installation of a test's own some 100."""
CHOSEN = pytest.StashKey[Path | None]()
"""What one process of a run has chosen for all."""
_PREFIX = "hongbao-tests-"


def choose(workers: int, memory: Path = MEMORY) -> tuple[Path | None, str]:
    """The folder in memory for all workers of a run (None: the disk of TMPDIR), and a line that says why."""
    if not memory.is_dir():
        return None, f"databases: on disk in {tempfile.gettempdir()}, for there is no {memory}"
    free_bytes = min(shutil.disk_usage(memory).free, psutil.virtual_memory().available)
    room = f"{memory} has {free_bytes // 2**20:,} MiB free, and {workers} x {BYTES_A_WORKER // 2**20} are wanted"
    if free_bytes < workers * BYTES_A_WORKER or not os.access(memory, os.W_OK | os.X_OK):
        return None, f"databases: on disk in {tempfile.gettempdir()}, which is slower: {room}"
    return memory, f"databases: in memory: {room}"


def make(memory: Path) -> Path:
    """A new folder there, for a data directory or several."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=memory))
    folder.chmod(0o711)  # as root, Postgres runs under another account and must get through
    return folder


def remove_leftovers(memory: Path = MEMORY) -> list[Path]:
    """Remove what runs of ours that were killed left in memory, where nothing else would; returns what that was."""
    found = []
    for folder in memory.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, OperatorError):  # somebody else removes it, or holds it after all
            if folder.lstat().st_uid == os.geteuid() and _owner_is_gone(folder):
                servers.remove(folder)
                found.append(folder)
    return found


def _owner_is_gone(data_dir: Path) -> bool:
    """Whether the process that held it last has ended; one that nobody has held yet is somebody's who begins."""
    text = (data_dir / "run" / "lock").read_text(encoding="utf-8")
    return text.strip().isdigit() and not psutil.pid_exists(int(text))
