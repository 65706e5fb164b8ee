"""A user who is not root and has no home: ``nobody``, in a checkout of its own.

Where the interpreter or the checkout lies in a folder that others may not enter (root's own, say), the command sees
that folder with nothing else in it: a mount namespace of its own, which ends with it.
"""

import os
import pwd
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_NAME = "nobody"


def user_missing() -> str | None:
    """Why nothing can be run as another user here; None if it can."""
    if os.geteuid() != 0:
        return "only root can become another user, and every run of yours is one of a user"
    missing = [name for name in ("unshare", "mount", "setpriv") if shutil.which(name) is None]
    return f"{' and '.join(missing)} missing: install util-linux" if missing else None


@dataclass(frozen=True, slots=True)
class Checkout:
    """A copy of the project that the user owns, and what goes before a command's words to run it as the user."""

    folder: Path
    prefix: tuple[str, ...]
    environment: dict[str, str]


@contextmanager
def checkout_of_user(root: Path) -> Iterator[Checkout]:
    """The checkout ``root`` as the user's, without its environment, until the end of the block."""
    account = pwd.getpwnam(_NAME)
    with tempfile.TemporaryDirectory(prefix="hostile-user-", ignore_cleanup_errors=True) as name:
        top = Path(name)
        top.chmod(0o755)
        folder, aside, temporary = top / "checkout", top / "aside", top / "tmp"
        _copy(root, folder)
        for path in (aside, temporary):
            path.mkdir()
        for path in (folder, temporary, *folder.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid)
        become = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", "--"]
        lines = ["set -e", *_opening({Path(sys.base_prefix).resolve(), root.resolve()}, aside), 'exec "$@"']
        prefix = ("unshare", "--mount", "--", "sh", "-c", "\n".join(lines), "sh", *become)
        yield Checkout(folder, prefix, {"HOME": "/nonexistent", "TMPDIR": str(temporary), "USER": _NAME})


def _copy(root: Path, folder: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
        timeout=60,
    )
    for name in map(os.fsdecode, filter(None, listed.stdout.split(b"\0"))):
        if (root / name).is_file():  # one that was deleted is still listed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)


def _opening(needed: set[Path], aside: Path) -> list[str]:
    """Lines of shell after which the user can reach the folders it needs, by the names they have."""
    closed = {place: path for path in needed if (place := _closed_above(path)) is not None}
    if not closed:
        return []
    reached = sorted(path for path in needed if _closed_above(path) is not None)
    quoted = [(shlex.quote(str(path)), shlex.quote(str(aside / str(number)))) for number, path in enumerate(reached)]
    return [
        *(f"mkdir {kept}; mount --bind {path} {kept}" for path, kept in quoted),
        *(f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(place))}" for place in sorted(closed)),
        *(f"mkdir -p {path}; mount --bind {kept} {path}" for path, kept in quoted),
    ]


def _closed_above(path: Path) -> Path | None:
    """The uppermost folder above ``path`` that others may not enter."""
    for place in reversed(path.parents):
        if not place.stat().st_mode & stat.S_IXOTH:
            return place
    return None
