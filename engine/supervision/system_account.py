"""Postgres's account if we are root, and what that account can reach.

Postgres refuses to run as root. Clones and data directories are often in folders that only root may enter, and we must
not open other people's folders. So what the account cannot reach is put under ``STATE_DIR``.
"""

import contextlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from engine.errors import OperatorError

ACCOUNT_NAME = "hongbao"
STATE_DIR = Path("/var/lib/hongbao")
"""Root's folder for what the account must reach: ``postgres-<version>``, ``clusters/<random id>``, ``run/<hash>``."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    uid: int
    gid: int


def service_account() -> Account | None:
    """``hongbao`` (created if necessary), otherwise ``nobody``. None if we are not root and run servers as ourselves.

    Raises OperatorError if the machine has neither and none can be created.
    """
    if os.geteuid() != 0:
        return None
    _create_account()
    for name in (ACCOUNT_NAME, "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid)
    raise OperatorError(
        "Postgres cannot run as root and no account for it could be created: "
        "run useradd --system hongbao, or start it as another user."
    )


def owner_of(path: Path) -> Account | None:
    """The account that owns a folder. None if root owns it or if we are not root."""
    entry = path.stat()
    return Account(entry.st_uid, entry.st_gid) if os.geteuid() == 0 and entry.st_uid != 0 else None


def can_pass(account: Account, folder: Path) -> bool:
    """Whether the account may pass through this folder and all its parents, by mode bits and main group."""
    resolved = folder.resolve()
    return all(_may(account, above, stat.S_IXOTH) for above in (resolved, *resolved.parents))


def can_read(account: Account, path: Path) -> bool:
    """Whether the account may reach and read a file or folder."""
    return can_pass(account, path.resolve().parent) and _may(account, path, stat.S_IROTH)


def reachable_copy(root: Path, parts: tuple[str, ...], name: str) -> Path:
    """Copy the folders ``parts`` of ``root`` to ``STATE_DIR/name``, once, readable by everyone. Returns the copy."""
    target = STATE_DIR / name
    if target.is_dir():
        return target
    make_state_dir()
    temporary = Path(tempfile.mkdtemp(dir=STATE_DIR, prefix=f".{name}-"))
    try:
        for part in parts:
            shutil.copytree(root / part, temporary / part, symlinks=True)
        for folder, _, files in os.walk(temporary):
            Path(folder).chmod(0o755)
            for file in files:
                _make_readable(Path(folder, file))
        with contextlib.suppress(OSError):  # another process made it meanwhile: its copy is as good
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def make_state_dir(*below: str) -> Path:
    """Make ``STATE_DIR`` and folders below it. Anyone may pass through them, but only root may change them."""
    path = STATE_DIR
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.chmod(0o755)
    for part in below:
        path = path / part
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
    return path


def make_private_dir(path: Path, account: Account | None) -> None:
    """Make a folder that only ``account`` (None: ourselves) may enter, or check that it is one.

    Raises OperatorError if the path is anything else: somebody may have put it there to read our data.
    """
    uid = os.geteuid() if account is None else account.uid
    path.mkdir(mode=0o700, exist_ok=True)
    if account is not None:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)
    entry = path.lstat()
    if not stat.S_ISDIR(entry.st_mode) or entry.st_uid != uid or entry.st_mode & 0o077:
        raise OperatorError(f"The folder {path} is not private to this user: remove it and start again.")


def _create_account() -> None:
    with contextlib.suppress(KeyError):
        pwd.getpwnam(ACCOUNT_NAME)
        return
    useradd = shutil.which("useradd", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if useradd is not None:
        arguments = ["--system", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNT_NAME]
        subprocess.run([useradd, *arguments], check=False, capture_output=True)  # noqa: S603  # fixed words


def _may(account: Account, path: Path, bit_for_others: int) -> bool:
    entry = path.stat()
    shift = 6 if entry.st_uid == account.uid else 3 if entry.st_gid == account.gid else 0
    return bool(entry.st_mode & (bit_for_others << shift))


def _make_readable(path: Path) -> None:
    if not path.is_symlink():
        path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
