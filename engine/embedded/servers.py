"""The private servers of a data directory, for a machine that has none: their URLs, whether they run."""

import contextlib
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from engine.embedded import data_dir, postgres, redis
from engine.embedded.data_dir import hold
from engine.embedded.postgres import EmbeddedPostgres
from engine.embedded.redis import EmbeddedRedis

__all__ = ["EmbeddedPostgres", "EmbeddedRedis", "Servers", "hold", "is_running", "remove", "running", "urls"]


_SOCKET = ".s.PGSQL.5432"


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the two servers are."""

    redis_url: str
    database_url: str


def urls(path: Path) -> Servers:
    """The URLs of a data directory's servers, which depend on its path alone: whether they run is another question."""
    return Servers(redis_url=redis.url(path), database_url=postgres.url(path))


def is_running(path: Path) -> bool:
    """Whether both servers of a data directory take connections at this moment."""
    return None not in running(path)


def running(path: Path) -> tuple[str | None, str | None]:
    """The URLs of a data directory's Redis and Postgres; None for one that takes no connections at this moment."""
    redis_url, database_url = redis.url(path), postgres.url(path)
    return (
        redis_url if _accepts(data_dir.redis_socket(path)) else None,
        database_url if _accepts(data_dir.postgres_socket_dir(path) / _SOCKET) else None,
    )


def remove(path: Path) -> None:
    """Delete a data directory for good, with the Postgres cluster that may live elsewhere. It must not be running."""
    with hold(path) as held:
        link = held.path / "postgres"
        if link.is_symlink():
            shutil.rmtree(link.resolve().parent, ignore_errors=True)
        for sockets in (data_dir.redis_socket(path).parent, data_dir.postgres_socket_dir(path)):
            shutil.rmtree(sockets, ignore_errors=True)
        shutil.rmtree(held.path)


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        connection.settimeout(1.0)
        connection.connect(str(path))
        return True
    return False
