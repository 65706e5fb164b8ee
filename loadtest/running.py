"""A `hongbao up`, or a program like it: started on a free port, watched, stopped."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.embedded import servers
from engine.supervision import tether

_STOP_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Running:
    """A running installation: its URL and its files."""

    base_url: str
    data_dir: Path

    def kill(self, name: str) -> bool:
        """Kill one of its children ("persist", "serve-1", ...). Returns False if it is not running at the moment."""
        try:
            text = (self.data_dir / "run" / f"{name}.pid").read_text(encoding="utf-8")
            if not text.endswith("\n"):
                return False  # the file is being written
            os.kill(int(text), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            return False
        return True

    def log(self) -> str:
        """The log of it and its children."""
        return (self.data_dir / "up.log").read_text(encoding="utf-8", errors="replace")


class NotStartedError(Exception):
    """`hongbao up` ended before it was ready. The text is its output."""


@contextmanager
def running(*, workers: int, redis_nodes: int = 1) -> Iterator[Running]:
    """Run one on a fresh data directory during the block. Raises NotStartedError.

    With several ``redis_nodes``, each has a replica that must have a claim before it is acknowledged. Otherwise the
    last claims could be lost when a replica takes over, as the ``memory`` mode allows.
    """
    words = ["-m", "engine", "up", "--port", "0", "--workers", str(workers)]
    environment = dict(os.environ)
    if redis_nodes > 1:
        words += ["--redis-nodes", str(redis_nodes), "--replicas", "1"]
        environment.setdefault("HONGBAO_ACK", "replica")
    with fresh_data_dir() as data_dir:
        argv = (sys.executable, *words, "--data-dir", str(data_dir))
        with started(argv, data_dir / "up.log", environment) as process:
            yield Running(process.base_url, data_dir)


@contextmanager
def fresh_data_dir() -> Iterator[Path]:
    """A data directory that is removed after the block. Nothing may run on it by then."""
    with tempfile.TemporaryDirectory(prefix="hongbao-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # as root, Postgres runs under another account and must get through
        data_dir = Path(folder) / "data"
        data_dir.mkdir(mode=0o711)
        try:
            yield data_dir
        finally:
            with _patient():
                servers.remove(data_dir)


@dataclass(frozen=True, slots=True)
class Started:
    """A program that has printed ``ready`` and its URL."""

    base_url: str
    pid: int


@contextmanager
def started(argv: Sequence[str], log_path: Path, environment: Mapping[str, str] | None = None) -> Iterator[Started]:
    """Run `hongbao up`, or a program that prints ``ready`` like it, during the block.

    ``environment`` None: this process's environment. Raises NotStartedError. Enter it in the main thread.
    """
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*_tethered(), *argv],
            stdout=subprocess.PIPE,
            stderr=log,
            stdin=subprocess.DEVNULL,
            encoding="utf-8",
            env=environment,
            start_new_session=True,  # Ctrl-C reaches this process, which then stops it
        )
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            if not line.startswith("ready "):
                process.wait()
                raise NotStartedError(log_path.read_text(encoding="utf-8", errors="replace").strip())
            yield Started(line.split()[1], process.pid)
        finally:
            with _patient():
                _stop(process)


def _tethered() -> list[str]:
    """A command's prefix that makes the kernel stop it cleanly if this process is killed."""
    return [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), str(int(signal.SIGTERM)), "-", "-"]


def _stop(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


@contextmanager
def _patient() -> Iterator[None]:
    """Ignore a second Ctrl-C, so that everything that was started is stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
