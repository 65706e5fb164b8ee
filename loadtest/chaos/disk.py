"""A small disk for Redis's files that can be filled and freed. It needs Linux and root.

It is a tmpfs in the engine's own mount namespace: nobody else sees it, and it disappears with the engine.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

_ROOM = "1g"
"""The disk's size in memory. It is allocated only as it is used."""
_PROGRAMS = ("unshare", "nsenter", "mount", "sh")
_MOUNT = f'mount -t tmpfs -o size={_ROOM},mode=0700 hongbao-chaos "$1" && shift && exec "$@"'
_S_MAX = 10.0
_TRIES_MAX = 50


def why_not() -> str | None:
    """Why this machine cannot have such a disk, or None."""
    if os.geteuid() != 0:
        return "only root can mount a small disk"
    lacking = [program for program in _PROGRAMS if shutil.which(program) is None]
    if lacking:
        return f"there is no {lacking[0]} here"
    tried = subprocess.run(
        [_path("unshare"), "--mount", _path("mount"), "-t", "tmpfs", "-o", "size=1m", "hongbao-chaos", "/mnt"],
        capture_output=True,
        encoding="utf-8",
        timeout=_S_MAX,
        check=False,
    )
    return None if tried.returncode == 0 else f"a small disk cannot be mounted: {tried.stderr.strip()}"


class SmallDisk:
    """Mounted on ``path`` for a program that is started with ``command``. ``pid``: that program's process id."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def command(self, argv: Sequence[str]) -> list[str]:
        """The program's arguments after those that mount the disk. The process id stays the same."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return [_path("unshare"), "--mount", _path("sh"), "-c", _MOUNT, "sh", str(self.path), *argv]

    def fill(self, pid: int) -> None:
        """Fill the disk: its files stay, but nothing more can be written."""
        for tried in range(1, _TRIES_MAX + 1):
            status = os.statvfs(self.seen(pid))
            try:
                self._resize(pid, str((status.f_blocks - status.f_bfree) * status.f_frsize))
            except subprocess.CalledProcessError:  # more was written meanwhile
                if tried == _TRIES_MAX:
                    raise
            else:
                return

    def seen(self, pid: int) -> Path:
        """The disk's path for other processes."""
        return Path(f"/proc/{pid}/root{self.path}")

    def free(self, pid: int) -> None:
        """Free the disk again."""
        self._resize(pid, _ROOM)

    def _resize(self, pid: int, size: str) -> None:
        words = ["--target", str(pid), "--mount", _path("mount"), "-o", f"remount,size={size}", str(self.path)]
        subprocess.run([_path("nsenter"), *words], capture_output=True, timeout=_S_MAX, check=True)


def _path(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise FileNotFoundError(program)
    return found
