"""The compared servers: ours and the peers. All are started and stopped in the same way."""

import getpass
import hashlib
import http.client
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template

from benchmarks.peers.availability import HERE, NGINX_MODULES, fastify_folder, go_program
from benchmarks.rig import processes
from benchmarks.rig.stage import Stage
from engine.supervision.child import Process

GRAB_LUA, CLAIM_LUA = HERE / "grab.lua", HERE.parent.parent / "lua/claim.lua"
_GROUP_BOUNDS = ("BACKLOG_MAX", "CALLS_IN_FLIGHT_MAX", "CLAIMS_PER_CALL_MAX")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """``name``: in raw results. ``title``: in the report. ``argv`` writes files if necessary.

    ``on_ledger``: it makes the engine's own events, so a persister and the whole audit follow.
    """

    name: str
    title: str
    argv: Callable[[Stage, Path, int], tuple[str, ...]]
    variables: Callable[[Stage, str, int], dict[str, str]]
    on_ledger: bool = False
    on_postgres: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A server that answers. ``base_url`` has no path."""

    server: Server
    process: Process
    port: int

    @property
    def base_url(self) -> str:
        """The server's URL."""
        return f"http://127.0.0.1:{self.port}"

    def post(self, path: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, bytes]:
        """Send one request on a new connection. Returns the status and the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", path, body=body, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@contextmanager
def started(stage: Stage, server: Server, database: str) -> Iterator[Started]:
    """Run a server on the stage's Redis and a database during the block. Raises NotStartedError."""
    folder = stage.folder / f"server-{server.name}"
    folder.mkdir(exist_ok=True)
    port = processes.free_port()
    process = processes.start(
        server.argv(stage, folder, port),
        variables=server.variables(stage, database, port),
        cwd=folder,
        log_path=folder / "log",
    )
    try:
        ready = _ready_path(port) if server.on_ledger else lambda: processes.listens(port)
        processes.wait_until(server.title, process, ready)
        yield Started(server=server, process=process, port=port)
    finally:
        processes.stop(process)


def _ready_path(port: int) -> Callable[[], bool]:
    def ready() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return ready


def _uvicorn(app: str) -> Callable[[Stage, Path, int], tuple[str, ...]]:
    def argv(stage: Stage, folder: Path, port: int) -> tuple[str, ...]:
        options = ("--host", "127.0.0.1", "--port", str(port), "--no-access-log", "--log-level", "warning")
        return (sys.executable, "-m", "uvicorn", app, *options, "--app-dir", str(HERE.parent.parent))

    return argv


def _nginx(stage: Stage, folder: Path, port: int) -> tuple[str, ...]:
    values = {
        "folder": str(folder),
        "port": str(port),
        "redis_port": str(stage.redis.port),
        "modules": str(NGINX_MODULES),
        "user": getpass.getuser(),
        "grab_lua": str(GRAB_LUA),
        "grab_sha": hashlib.sha1(GRAB_LUA.read_bytes()).hexdigest(),
        "claim_lua": str(HERE / "nginx/claim.lua"),
    }
    path = folder / "nginx.conf"
    path.write_text(
        Template((HERE / "nginx/nginx.conf.template").read_text(encoding="utf-8")).substitute(values), encoding="utf-8"
    )
    return (_on_path("nginx"), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(path))


def _on_path(program: str) -> str:
    return shutil.which(program) or program


def _redis_variables(stage: Stage, database: str, port: int) -> dict[str, str]:
    return {"REDIS_URL": stage.redis.url, "GRAB_LUA": str(GRAB_LUA), "PORT": str(port)}


def _group_variables(stage: Stage, database: str, port: int) -> dict[str, str]:
    """The engine's own script, and the bounds that our server has."""
    settings = stage.settings(database)
    bounds = {name: str(getattr(settings, name.lower())) for name in _GROUP_BOUNDS}
    return {"REDIS_URL": stage.redis.url, "CLAIM_LUA": str(CLAIM_LUA), "PORT": str(port), **bounds}


OURS = Server(
    name="hongbao",
    title="Hongbao",
    argv=lambda stage, folder, port: (sys.executable, "-m", "engine", "serve"),
    variables=lambda stage, database, port: stage.variables(database, port),
    on_ledger=True,
)


def ours_with(settings: Mapping[str, str]) -> Server:
    """Our server with some settings more, by the names of environment variables."""
    return replace(OURS, variables=lambda *given: {**OURS.variables(*given), **settings})


TEXTBOOK = Server(
    name="textbook",
    title="Starlette + redis.asyncio",
    argv=_uvicorn("benchmarks.peers.textbook.app:app"),
    variables=_redis_variables,
)
FASTIFY = Server(
    name="fastify",
    title="Fastify + ioredis",
    argv=lambda stage, folder, port: (_on_path("node"), str(fastify_folder() / "server.js")),
    variables=lambda *given: {**_redis_variables(*given), "NODE_ENV": "production"},
)
NGINX = Server(name="nginx", title="nginx + Lua", argv=_nginx, variables=_redis_variables)
GO = Server(
    name="go",
    title="Go fasthttp + redigo",
    argv=lambda stage, folder, port: (str(go_program("go")),),
    variables=_redis_variables,
)
GO_GROUP = Server(
    name="go-group",
    title="Go fasthttp + redigo with group commit",
    argv=lambda stage, folder, port: (str(go_program("go_group")),),
    variables=_group_variables,
    on_ledger=True,
)
POSTGRES = Server(
    name="postgres",
    title="Starlette + asyncpg",
    argv=_uvicorn("benchmarks.peers.postgres.app:app"),
    variables=lambda stage, database, port: {"DATABASE_URL": stage.database_url(database), "PORT": str(port)},
    on_postgres=True,
)
SERVERS = {server.name: server for server in (OURS, TEXTBOOK, FASTIFY, NGINX, GO, GO_GROUP, POSTGRES)}
ON_REDIS = tuple(server for server in SERVERS.values() if not server.on_postgres)
