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
from engine.errors import OperatorError

__all__ = ["EmbeddedPostgres", "EmbeddedRedis", "Servers", "hold", "is_running", "places", "remove", "running", "urls"]


_SOCKET = ".s.PGSQL.5432"
_ENTRIES = frozenset(
    ("auth-secret", "auth-secrets", "postgres", "postgres.log", "postgres.new", "redis", "redis.log", "run")
)
"""What there can be in a data directory."""


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


def check_ours(path: Path) -> None:
    """Raise OperatorError unless the folder is a data directory and holds nothing else."""
    folder = path.resolve()
    try:
        entries = {entry.name for entry in folder.iterdir()}
    except OSError as error:
        raise OperatorError(f"There is no installation in {folder}: {error.strerror}.") from None
    if "run" not in entries:
        raise OperatorError(f"There is no installation in {folder}: hongbao has never run there.")
    if foreign := sorted(entries - _ENTRIES):
        raise OperatorError(f"{folder} also holds {foreign[0]}, which is not hongbao's: remove it by hand, or move it.")


def places(path: Path) -> list[Path]:
    """The folders that hold a data directory's files, its own last.

    Those elsewhere: the Postgres cluster and the sockets of a directory that the servers' account cannot reach.
    """
    folder = path.resolve()
    sockets = {data_dir.redis_socket(path).parent, data_dir.postgres_socket_dir(path)}
    elsewhere = {place for place in sockets if place.exists() and not place.is_relative_to(folder)}
    if (cluster := postgres.own_cluster_elsewhere(folder / "postgres")) is not None:
        elsewhere.add(cluster)
    return [*sorted(elsewhere), folder]


def remove(path: Path) -> None:
    """Delete a data directory for good, and what ``places`` finds elsewhere. It must not be running."""
    with hold(path):
        for place in places(path):
            shutil.rmtree(place)


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        connection.settimeout(1.0)
        connection.connect(str(path))
        return True
    return False
