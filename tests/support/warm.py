"""The command `hongbao` without a start of its own: forked off a process that has imported everything.

A start is a quarter of a second of CPU, nearly all of it imports, and the tests run more than a hundred short commands.
A forked one has its own process id, arguments, environment, folder, stdout and stderr, and ends as any process does.
"""

import atexit
import gc
import importlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache

import orjson

from tests.support.repository import ROOT

_IMPORTED = (
    *("api.server", "engine.cli.main", "engine.running.libraries", "engine.running.processes", "engine.running.up"),
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
        told, tell = os.pipe()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, os.fdopen(told, "rb") as answers:
            try:
                request = orjson.dumps({"words": words, "env": env, "folder": os.getcwd()})
                socket.send_fds(self.requests, [request], [out.fileno(), err.fileno(), tell])
            finally:
                os.close(tell)
            pid = int(answers.readline())
            ready, _, _ = select.select([answers], [], [], timeout_s)
            if not ready:
                os.kill(pid, signal.SIGKILL)
            code = int(answers.readline())
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
        if not ready:
            raise subprocess.TimeoutExpired(words, timeout_s, *texts)
        return subprocess.CompletedProcess(words, code, *texts)


@cache
def warm() -> Warm:
    """This process's, which ends with it."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there:
        env = dict(os.environ)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.warm", str(there.fileno())],
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


def _serve(requests: socket.socket) -> None:
    """Fork for every request. Returns only in the forked processes, which are to be the command then."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that wait are not waited for
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, _REQUEST_BYTES_MAX, 3)
        if not request:
            os._exit(0)
        out, err, tell = descriptors
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if (pid := os.fork()) == 0:
                os.close(tell)
                requests.close()
                _become(orjson.loads(request), out, err)
                return
            os.write(tell, b"%d\n" % pid)
            _, status = os.waitpid(pid, 0)
            os.write(tell, b"%d\n" % os.waitstatus_to_exitcode(status))
            os._exit(0)
        for descriptor in (out, err, tell):
            os.close(descriptor)


def _become(request: "dict[str, object]", out: int, err: int) -> None:
    for descriptor, number in ((out, 1), (err, 2)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(str(request["folder"]))
    os.environ.clear()
    os.environ.update(request["env"])  # type: ignore[call-overload]
    sys.argv = ["hongbao", *request["words"]]  # type: ignore[misc]


def main() -> None:
    """Import, wait to be forked, and then be the command."""
    from engine.__main__ import main as hongbao
    from engine.__main__ import make_starts_cheap

    make_starts_cheap()
    for name in _IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    hongbao()


if __name__ == "__main__":
    main()
