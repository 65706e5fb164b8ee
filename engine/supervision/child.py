"""One child process: it starts, stops, and dies with its parent."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from engine.supervision import report, tether
from engine.supervision.system_account import Account

LOG_BYTES_MAX = 16 * 1024 * 1024
_POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run. ``env`` None: this process's own. ``log_path`` None: it writes where this process writes."""

    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    account: Account | None = None
    log_path: Path | None = None
    report_path: Path | None = None
    """The file in which one of our own programs reports why it could not run (``engine.supervision.report``)."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10.0
    reload_signal: signal.Signals | None = None
    """The signal that makes it read its files again, or None."""
    death_signal: signal.Signals = signal.SIGKILL
    """The signal that the kernel sends it when this process dies (Linux)."""


class Process:
    """A running child in a separate session, so that Ctrl-C in a terminal reaches only the supervisor.

    Start it from the main thread: Linux sends the death signal when the *thread* that forked it ends.
    """

    def __init__(self, command: Command) -> None:
        self.command = command
        self.started_at_s = time.monotonic()
        with _open_log(command.log_path) as log, _interrupts_held_back():
            self._log_offset = log.tell() if log is not None else 0
            self._popen = subprocess.Popen(  # noqa: S603  # argv is ours
                _tethered(command),
                env=None if command.env is None else dict(command.env),
                cwd=command.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._popen.pid

    def exit_code(self) -> int | None:
        """The exit code, or None while it runs. If negative, it is the signal that ended it."""
        return self._popen.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal. If the process has ended, nothing happens."""
        self._popen.send_signal(number)

    def wait(self, timeout_s: float) -> bool:
        """Block until it has ended, at most ``timeout_s``. Returns whether it has."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout_s)
        return self.exit_code() is not None

    def stop(self) -> None:
        """Send its stop signal, wait for a bounded time, then send SIGKILL."""
        self.signal(self.command.stop_signal)
        if not self.wait(self.command.stop_timeout_s):
            self.kill()

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        self.signal(signal.SIGKILL)
        self._popen.wait()

    def complaint(self) -> str:
        """Its own report of what went wrong, otherwise the most telling line of its log since this start, or empty."""
        told = "" if self.command.report_path is None else report.complaint(self.command.report_path)
        if told or self.command.log_path is None:
            return told
        return complaint(self.command.log_path, self._log_offset)


def run(command: Command, *, stdin: str = "", timeout_s: float = 120.0) -> int:
    """Run a short command to its end and return its exit code. Its output goes to its log."""
    with _open_log(command.log_path) as log:
        finished = subprocess.run(  # noqa: S603  # argv is ours
            _tethered(command),
            env=None if command.env is None else dict(command.env),
            cwd=command.cwd,
            input=stdin.encode(),
            stdout=log,
            stderr=log,
            start_new_session=True,
            timeout=timeout_s,
            check=False,
        )
    return finished.returncode


def complaint(log_path: Path, offset: int = 0) -> str:
    """The first line after ``offset`` that Postgres calls fatal (hints follow it), otherwise the last line."""
    with log_path.open("rb") as log:
        log.seek(offset)
        lines = [line.strip() for line in log.read(LOG_BYTES_MAX).decode(errors="replace").splitlines() if line.strip()]
    fatal = [line for line in lines if "FATAL: " in line]
    return fatal[0] if fatal else lines[-1] if lines else ""


def _tethered(command: Command) -> list[str]:
    """The argument vector, started through the tether."""
    account = command.account
    ids = ["-", "-"] if account is None else [str(account.uid), str(account.gid)]
    parent = [str(os.getpid()), str(int(command.death_signal))]
    return [sys.executable, "-I", "-S", tether.__file__, *parent, *ids, *command.argv]


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Block SIGINT in this thread and in the children it starts. A child unblocks it once SIGINT can end it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _open_log(path: Path | None) -> Iterator[IO[bytes] | None]:
    """Open a log for appending. If it is larger than its bound, it is first renamed to ``.1``."""
    if path is None:
        yield None
        return
    if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
        path.replace(path.with_name(path.name + ".1"))
    with open(path, "ab", opener=_private) as log:  # Path.open takes no opener
        yield log


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
