"""The command `hongbao`, and processes of ours, without a start of their own: forked off one that has imported all.

A start takes up to half a second of CPU, nearly all of it imports, and the tests run hundreds.
A forked one has its own process id, arguments, environment, folder, stdout and stderr, and an exit code as any has.
``started`` has imported only what every command has before it does anything: each imports the rest afresh.
"""

import asyncio
import atexit
import gc
import importlib
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from dataclasses import dataclass
from functools import cache
from io import RawIOBase
from typing import Any, NoReturn, TextIO

import orjson

from tests.support.repository import ROOT

_IMPORTED = (
    *(
        "api.console.server",
        "api.server",
        "engine.cli.main",
        "engine.running.libraries",
        "engine.running.processes",
        "engine.running.up",
    ),
    *(
        "engine.auditing.anchors",
        "engine.auditing.audit",
        "engine.auditing.reconciliation",
        "engine.doctor.doctor",
        "engine.recovery.recovery",
    ),
    *(
        "engine.packets.proof",
        "engine.persisting.quarantine",
        "engine.persisting.set_aside",
        "engine.wallets.receipt_check",
    ),
    *("rich.console", "rich.table", "typer.rich_utils"),
)
"""What commands import once they run. That each imports all it needs is shown where one has a start of its own."""
_REQUEST_BYTES_MAX = 65_536
_SETTING = "HONGBAO_"


@dataclass(frozen=True, slots=True)
class Warm:
    """The process that is forked; ``inherited`` is its environment but for settings of hongbao."""

    requests: socket.socket
    inherited: dict[str, str]

    def can_run(self, env: dict[str, str]) -> bool:
        """Whether a command with this environment differs only by what it reads itself, once it runs."""
        return _without_settings(env) == self.inherited

    def run(self, words: list[str], env: dict[str, str], timeout_s: float) -> "subprocess.CompletedProcess[str]":
        """`hongbao` with these words, to its end. Raises TimeoutExpired once it has killed it."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            forked = self._fork({"words": ["hongbao", *words], "env": env}, out.fileno(), err.fileno())
            code = forked.join(timeout_s)
            if code is None:
                forked.kill()
                forked.join()
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
        if code is None:
            raise subprocess.TimeoutExpired(words, timeout_s, *texts)
        return subprocess.CompletedProcess(words, code, *texts)

    def start(self, code: str, *words: str) -> "Forked":
        """``python -c code words``, with this process's environment and no stdout."""
        request: dict[str, object] = {"code": code, "words": ["-c", *words], "env": dict(os.environ)}
        with open(os.devnull, "wb") as nowhere, tempfile.TemporaryFile() as err:
            forked = self._fork(request, nowhere.fileno(), err.fileno())
            forked.keep_log(err.fileno())
        return forked

    def program(self) -> str:
        """A line of shell that is `hongbao "$@"`; whoever runs it inherits ``requests``."""
        words = (sys.executable, "-I", "-S", str(ROOT / "tests" / "support" / "warm_command.py"))
        return f'{shlex.join([*words, str(self.requests.fileno())])} "$@"'

    def _fork(self, request: dict[str, object], out: int, err: int) -> "Forked":
        told, tell = os.pipe()
        try:
            socket.send_fds(self.requests, [orjson.dumps({**request, "folder": os.getcwd()})], [out, err, tell])
        finally:
            os.close(tell)
        answers = os.fdopen(told, "rb", buffering=0)
        return Forked(int(answers.readline()), answers)


@dataclass(slots=True, eq=False, weakref_slot=True)
class Forked:
    """A process that is none of our children: who forked it says with which code it ended."""

    pid: int
    answers: RawIOBase
    _code: int | None = None
    _log: int = -1

    def keep_log(self, descriptor: int) -> None:
        """Let ``said`` read this file for as long as there is this object."""
        self._log = os.dup(descriptor)
        weakref.finalize(self, os.close, self._log)

    def said(self) -> str:
        """What it has written to stderr so far. (Its place in the file is the process's own as well, and stays.)"""
        return os.pread(self._log, os.fstat(self._log).st_size, 0).decode()

    @property
    def returncode(self) -> int | None:
        """None for as long as it runs."""
        return self.join(0)

    def join(self, timeout_s: float | None = None) -> int | None:
        """Its exit code, as soon as it has ended; None if it has not within this time."""
        if self._code is None and select.select([self.answers], [], [], timeout_s)[0]:
            self._code = int(self.answers.readline())
            self.answers.close()
        return self._code

    async def wait(self) -> int:
        """The same, for as long as it takes."""
        if self.returncode is None:
            loop, ended = asyncio.get_running_loop(), asyncio.Event()
            loop.add_reader(self.answers, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(self.answers)
        code = self.join()
        assert code is not None
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Nothing if it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)


def warm() -> Warm:
    """This process's, which ends with it."""
    return _begun("all")


def started() -> Warm:
    """The same, but what it forks has imported no more than a command that has just been started."""
    return _begun("command")


@cache
def _begun(imported: str) -> Warm:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there:
        env = dict(os.environ)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.warm", str(there.fileno()), imported],
            env=env,
            pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=ROOT,
        )

    def end() -> None:
        here.close()
        process.wait()

    atexit.register(end)
    return Warm(here, _without_settings(env))


def _without_settings(env: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if not name.startswith((_SETTING, "PYTEST_CURRENT_TEST"))}


def _serve(requests: socket.socket) -> str | None:
    """Fork for every request. Returns only in the forked processes: the code they are to run, None for the command."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that wait are not waited for
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, _REQUEST_BYTES_MAX, 4)
        if not request:
            os._exit(0)
        out, err, tell, *into = descriptors
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if (pid := os.fork()) == 0:
                os.close(tell)
                requests.close()
                return _become(orjson.loads(request), out, err, *into)
            os.write(tell, b"%d\n" % pid)
            _, status = os.waitpid(pid, 0)
            os.write(tell, b"%d\n" % os.waitstatus_to_exitcode(status))
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def _become(request: "dict[str, Any]", out: int, err: int, *into: int) -> str | None:
    for descriptor, number in ((out, 1), (err, 2), *((one, 0) for one in into)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    if into:  # a shell's, which may be pipes: of those that were there before, Python believes that they can seek
        sys.stdin, sys.stdout, sys.stderr = (_reopened(sys.stdin), _reopened(sys.stdout), _reopened(sys.stderr))
    os.chdir(str(request["folder"]))
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = request["words"]
    code: str | None = request.get("code")
    return code


def _reopened(stream: TextIO) -> TextIO:
    is_error = stream is sys.stderr
    return open(  # for as long as the process runs
        stream.fileno(),
        "r" if stream is sys.stdin else "w",
        buffering=1 if is_error else -1,
        encoding=stream.encoding,
        errors=stream.errors,
        closefd=False,
    )


def main() -> None:
    """Import, wait to be forked, and then be the command, or run the code."""
    from engine.__main__ import main as hongbao
    from engine.__main__ import make_starts_cheap

    make_starts_cheap()
    for name in _IMPORTED if sys.argv[2] == "all" else ("engine.cli.main",):
        importlib.import_module(name)
    gc.freeze()
    code = _serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        if code is None:
            hongbao()
        else:
            exec(code, {"__name__": "__main__"})
    except SystemExit as ended:
        if not isinstance(ended.code, int):
            raise
        _end(ended.code)
    _end(0)


def _end(code: int) -> NoReturn:
    """As the interpreter ends, but for taking everything that it has imported apart.

    That would copy each page that is still shared with the process that was forked: five times the CPU of the fork.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # as multiprocessing's forked processes end
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    main()
