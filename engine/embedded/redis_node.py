"""One node of the embedded Redis Cluster: a server on loopback TCP that only our password opens."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from engine.embedded.cluster_layout import LOOPBACK, Layout, is_free, write_private
from engine.embedded.redis import BINARY_NAMES, COMMON_OPTIONS, binary
from engine.errors import OperatorError
from engine.supervision import service
from engine.supervision.child import Command, Process

_ANSWER_S_MAX = 1.0
_OPTIONS = {
    "bind": LOOPBACK,
    "cluster-enabled": "yes",
    "cluster-announce-ip": LOOPBACK,
    "cluster-config-file": "nodes.conf",
    "cluster-require-full-coverage": "no",  # a dead master stops its own lanes only
    "cluster-replica-validity-factor": "0",  # a replica may always take over; what it lacks, the lanes' check finds
    "cluster-allow-replica-migration": "no",
    "repl-diskless-sync-delay": "0",
}


class RedisNode:
    """It never runs without its folder's ``nodes.conf``, in which it keeps what it knows of the others."""

    def __init__(
        self, name: str, folder: Path, *, ports: tuple[int, int], password: str, options: Mapping[str, str]
    ) -> None:
        self.name = name
        self.folder = folder
        self.port, self.bus_port = ports
        self.process: Process | None = None
        self._password = password
        self._options = options

    def start(self) -> None:
        """Start it and block until it answers. Raises OperatorError."""
        self.process = service.start(self)

    def stop(self) -> None:
        """Stop it cleanly if it runs. It can be started again."""
        if self.process is not None:
            self.process.stop()
            self.process = None

    def kill(self) -> None:
        """Send SIGKILL if it runs. It can be started again, on its data."""
        if self.process is not None:
            self.process.kill()
            self.process = None

    def prepare(self) -> None:
        """Make the folder, stop a server that was left behind in it, and check that the ports are free."""
        binary()
        self.folder.mkdir(mode=0o700, exist_ok=True)
        service.stop_leftovers(self.folder, BINARY_NAMES)
        for port in (self.port, self.bus_port):
            if not is_free(port):
                raise OperatorError(
                    f"{self.name} did not start: another program has taken its port {port} of {LOOPBACK}: "
                    "stop that program, and start again."
                )
        # A file, because everyone on the machine can read a command line.
        lines = f"requirepass {self._password}\nmasterauth {self._password}\n"
        write_private(self._password_path, lines.encode())

    def command(self) -> Command:
        """The server in the foreground, with its log beside its data."""
        ports = {"port": str(self.port), "cluster-port": str(self.bus_port)}
        settings = {**COMMON_OPTIONS, "dir": str(self.folder), **_OPTIONS, **ports, **self._options}
        words = [word for key, value in settings.items() for word in (f"--{key}", value)]
        argv = (str(binary()), str(self._password_path), *words)
        return Command(argv=argv, env={"LC_ALL": "C"}, cwd=self.folder, log_path=self.folder / "redis.log")

    def is_ready(self, pid: int) -> bool:
        """Whether this very process answers and has loaded its data."""
        try:
            self.ask("PING")
            return self.info("server")["process_id"] == pid
        except (RedisError, OSError):
            return False

    def ask(self, *words: str | int) -> str:
        """One command's answer as text, as the client reads it. Raises RedisError if it refuses or is silent."""
        with _client(self.port, self._password) as client:
            answer = client.execute_command(*words)
        return answer.decode() if isinstance(answer, bytes) else str(answer)

    def info(self, section: str) -> dict[str, object]:
        """A section of INFO. Raises RedisError as ``ask`` does."""
        with _client(self.port, self._password) as client:
            return dict(client.info(section))

    @property
    def _password_path(self) -> Path:
        return self.folder / "password.conf"


def one_answers(layout: Layout) -> bool:
    """Whether at least one node of a cluster answers to its password."""
    for port, _ in layout.ports:
        with contextlib.suppress(RedisError, OSError), _client(port, layout.password) as client:
            client.ping()
            return True
    return False


def _client(port: int, password: str) -> Redis:
    """A client for one question, which nothing is worth asking twice."""
    return Redis(
        host=LOOPBACK,
        port=port,
        password=password,
        socket_timeout=_ANSWER_S_MAX,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
