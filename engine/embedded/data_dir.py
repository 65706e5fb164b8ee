"""A data directory: its lock, and the places of the servers' sockets."""

import contextlib
import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.errors import OperatorError
from engine.supervision import system_account

SOCKET_DIR_BYTES_MAX = 85
"""A socket's path holds 107 bytes on Linux and 103 on macOS; ``/.s.PGSQL.5432`` takes 14 of them."""


@dataclass(frozen=True, slots=True)
class DataDir:
    """A data directory whose lock this process holds. Only ``hold`` makes one, so no two servers share a directory."""

    path: Path


def run_dir(data_dir: Path) -> Path:
    """The folder of the lock, the process ids and, if its path is short enough, the sockets."""
    return data_dir.resolve() / "run"


def redis_socket(data_dir: Path) -> Path:
    """The embedded Redis's socket. It depends only on the data directory's path."""
    return _plain_or(run_dir(data_dir), Path(tempfile.gettempdir()), data_dir) / "redis.sock"


def postgres_socket_dir(data_dir: Path) -> Path:
    """The folder of the embedded Postgres's socket. If we are root, Postgres's own account can reach it, too."""
    if os.geteuid() == 0:
        return system_account.STATE_DIR / "run" / _hash(data_dir)
    return _plain_or(run_dir(data_dir), Path(tempfile.gettempdir()), data_dir)


@contextlib.contextmanager
def hold(path: Path) -> Iterator[DataDir]:
    """Make the directory if necessary, and lock it while the block runs.

    Raises OperatorError if another process holds it or it cannot be used.
    """
    data_dir = path.resolve()
    try:
        # Root's directory can be passed through but not listed, so that Postgres's account reaches its cluster.
        data_dir.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        run_dir(data_dir).mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(run_dir(data_dir) / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise OperatorError(f"The data directory {data_dir} cannot be used: {error.strerror}.") from None
    try:
        _lock(descriptor, data_dir)
        yield DataDir(data_dir)
    finally:
        os.close(descriptor)  # this unlocks it, even if the process is killed


def _lock(descriptor: int, data_dir: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 20).decode().strip() or "unknown"
        raise OperatorError(
            f"The data directory {data_dir} is in use by another hongbao (process {holder}): stop it or choose another."
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())


def _plain_or(folder: Path, fallback: Path, data_dir: Path) -> Path:
    """``folder`` if its path is short and needs no quoting in a URL, otherwise one named by a hash in ``fallback``.

    If the fallback is no better (a long TMPDIR), it is in /tmp, which every system has.
    """
    name = f"hongbao-{os.geteuid()}-{_hash(data_dir)}"
    return next(path for path in (folder, fallback / name, Path("/tmp") / name) if _is_plain(path))  # noqa: S108


def _is_plain(path: Path) -> bool:
    text = str(path)
    return len(text) <= SOCKET_DIR_BYTES_MAX and re.fullmatch(r"[A-Za-z0-9/._-]+", text, re.ASCII) is not None


def _hash(data_dir: Path) -> str:
    return hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
