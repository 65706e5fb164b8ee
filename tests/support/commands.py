"""The command `hongbao` for tests, as a process of its own: run to its end, or kept running and stopped."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson
import psutil

from engine.access import tokens
from engine.settings import Settings
from engine.supervision import tether
from tests.support.front import CHECKED, Client
from tests.support.supervised import is_alive
from tests.support.warm import warm

_PROGRAM = (sys.executable, "-m", "engine")
_TIMEOUT_S = 60
_FEW_FILES = '"event":"the limit on open files is low"'
_LARGE_PACKETS = {"HONGBAO_COUNT_MAX": "1000000"}
"""What is tested with these is seldom who sends."""


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without any setting of hongbao but for large packets, and with ``variables``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HONGBAO_")}
    return kept | _LARGE_PACKETS | variables


def hongbao(*words: str | Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end; without a start of its own where nothing but settings is said by ``variables``."""
    env, ready = environment(**variables), warm()
    if ready.can_run(env):
        return ready.run([*map(str, words)], env, _TIMEOUT_S)
    return _finished([*_PROGRAM, *map(str, words)], env)


def hongbao_code(code: str, *words: str | Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run Python code with the command's arguments to its end."""
    return _finished([sys.executable, "-c", code, *map(str, words)], environment(**variables))


def _finished(argv: list[str], env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv, env=env, capture_output=True, encoding="utf-8", timeout=_TIMEOUT_S, check=False)


def sentence(finished: "subprocess.CompletedProcess[str]") -> str:
    """What a command that failed as it should said: one line on stderr, nothing on stdout, exit code 1.

    Before that line the API may warn of a machine on which few files may be open.
    """
    assert finished.returncode == 1, finished.stderr
    assert finished.stdout == ""
    said = "".join(line for line in finished.stderr.splitlines(keepends=True) if _FEW_FILES not in line)
    assert said.count("\n") == 1, finished.stderr
    assert said.startswith("hongbao: ")
    return said.removeprefix("hongbao: ").strip()


@dataclass(frozen=True, slots=True)
class Kept:
    """A command that stays: its process, its data directory, where its stderr goes."""

    process: "subprocess.Popen[str]"
    data_dir: Path
    log_path: Path

    def log(self) -> list[dict[str, object]]:
        """The whole lines it and its children have logged so far; each must be JSON."""
        return [orjson.loads(line) for line in self.log_path.read_bytes().split(b"\n")[:-1]]

    def pids(self) -> dict[str, int]:
        """The process ids of its children, by name."""
        found = {}
        for path in (self.data_dir / "run").glob("*.pid"):
            with contextlib.suppress(FileNotFoundError):  # a child that has ended meanwhile has none
                if (text := path.read_text(encoding="utf-8")).endswith("\n"):
                    found[path.stem] = int(text)
        return found

    def family(self) -> list[int]:
        """The process ids of everything it has started."""
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal and wait for the end: the exit code, and what was left to read from stdout.

        Checks that nothing it had started is left.
        """
        family = self.family()
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=_TIMEOUT_S)
        assert [pid for pid in family if is_alive(pid)] == []
        assert list((self.data_dir / "run").glob("*.pid")) == []
        return self.process.returncode, rest


@contextmanager
def kept(command: str, *words: str | Path, data_dir: Path, **variables: str) -> Iterator[Kept]:
    """A command that runs for as long as the block, unless it is ended there. Its stderr goes to a file."""
    log_path = data_dir.with_name(f"{command}.stderr")
    tethered = [sys.executable, tether.__file__, str(os.getpid()), str(int(signal.SIGTERM)), "-", "-"]
    argv = [*tethered, *_PROGRAM, command, "--data-dir", str(data_dir), *map(str, words)]
    with (
        log_path.open("wb") as log,
        subprocess.Popen(
            argv, env=environment(**variables), stdout=subprocess.PIPE, stderr=log, encoding="utf-8"
        ) as process,
    ):
        try:
            yield Kept(process, data_dir, log_path)
        finally:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Up(Kept):
    """A `hongbao up` that is ready."""

    base_url: str

    def client(self) -> Client:
        """A client with tokens of its own. Close ``client.http`` (an async context manager)."""
        secret = tokens.load_secret(Settings(data_dir=self.data_dir, auth_secret=None))
        return Client(httpx.AsyncClient(base_url=self.base_url, timeout=30, event_hooks=CHECKED), secret)


@contextmanager
def upped(data_dir: Path, *words: str | Path, **variables: str) -> Iterator[Up]:
    """`hongbao up` on a free port, from its ready line to the end of the block."""
    with kept("up", "--port", "0", *words, data_dir=data_dir, **variables) as running:
        assert running.process.stdout is not None
        line = running.process.stdout.readline()
        assert line.startswith("ready http://127.0.0.1:"), running.log_path.read_text(encoding="utf-8")
        yield Up(running.process, data_dir, running.log_path, line.split()[1])
