"""The Redis under test: redis-server from PATH on TCP loopback, the same for every server, started from a snapshot."""

import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from benchmarks.rig import processes
from engine.errors import OperatorError
from engine.supervision.child import Process

SNAPSHOT = "dump.rdb"
APPENDFSYNC = ("off", "no", "everysec", "always")
"""The settings of the append-only file. ``off``: there is none."""
_LARGE_S_MAX = 600.0
"""How long reading or writing a large snapshot may take."""
_SETTINGS = {"bind": "127.0.0.1", "save": "", "maxmemory-policy": "noeviction", "daemonize": "no", "appendonly": "no"}


class RedisServer:
    """One server at a time on one port, in its own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = processes.free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        """The running server's process id."""
        if self._process is None:
            raise RuntimeError("the Redis under test is not running")
        return self._process.pid

    def start(self, snapshot: Path | None, *, appendfsync: str = "off") -> None:
        """Start it with the data of ``snapshot`` (None: empty). Raises NotStartedError."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if snapshot is not None:
            shutil.copyfile(snapshot, self.folder / SNAPSHOT)
        settings = {**_SETTINGS, "port": str(self.port), "dir": str(self.folder), "dbfilename": SNAPSHOT}
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        log_path = self.folder / "redis.log"
        self._process = processes.start((program(), *words), variables={}, cwd=self.folder, log_path=log_path)
        processes.wait_until("redis-server", self._process, self._answers, _LARGE_S_MAX)
        if appendfsync != "off":
            self._append_only(appendfsync)

    def stop(self) -> None:
        """Stop it. Its data is not kept."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def save(self, path: Path) -> None:
        """Write a snapshot of all data to ``path``."""
        with self.client() as client:
            client.save()
        shutil.copyfile(self.folder / SNAPSHOT, path)

    def client(self) -> "Redis":
        """A blocking client that returns bytes."""
        return Redis(host="127.0.0.1", port=self.port, socket_timeout=_LARGE_S_MAX)

    def info(self, section: str) -> Mapping[str, object]:
        """One section of INFO."""
        with self.client() as client:
            found: Mapping[str, object] = client.info(section)
            return found

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except RedisError:
            return False

    def _append_only(self, appendfsync: str) -> None:
        """Turn the append-only file on and wait until it holds what was loaded."""
        with self.client() as client:
            client.config_set("appendfsync", appendfsync)
            client.config_set("appendonly", "yes")
            while True:
                state = client.info("persistence")
                if not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]:
                    return
                time.sleep(0.01)


def program() -> str:
    """The server's path. Raises OperatorError if there is none: the embedded server is not a fair comparison."""
    found = shutil.which("redis-server")
    if found is None:
        raise OperatorError("The benchmarks need redis-server on PATH.")
    return found


def version() -> str:
    """The server's own version text."""
    return subprocess.run([program(), "--version"], capture_output=True, encoding="utf-8", check=True).stdout.strip()
