"""The private servers of a data directory, for a machine without servers: their URLs, and whether they run."""

import contextlib
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.embedded import cluster_layout, data_dir, postgres, redis, redis_node
from engine.embedded.data_dir import DataDir, hold
from engine.embedded.postgres import EmbeddedPostgres
from engine.embedded.redis import EmbeddedRedis
from engine.embedded.redis_cluster import EmbeddedRedisCluster
from engine.errors import OperatorError

__all__ = [
    "EmbeddedPostgres",
    "EmbeddedRedis",
    "EmbeddedRedisCluster",
    "Servers",
    "hold",
    "is_running",
    "places",
    "redis_of",
    "remove",
    "running",
    "urls",
]


_SOCKET = ".s.PGSQL.5432"
_ENTRIES = frozenset(
    (
        "auth-secret",
        "auth-secrets",
        "postgres",
        "postgres.log",
        "postgres.new",
        "redis",
        "redis-cluster",
        "redis.log",
        "run",
    )
)
"""The names that may be in a data directory."""


@dataclass(frozen=True, slots=True)
class Servers:
    """The URLs of the two servers."""

    redis_url: str
    database_url: str


def redis_of(
    held: DataDir,
    *,
    nodes: int | None = None,
    replicas: int = 0,
    appendfsync: str = "everysec",
    options: Mapping[str, str] | None = None,
) -> EmbeddedRedis | EmbeddedRedisCluster:
    """The data directory's Redis: a cluster, or a single server if ``nodes`` is 1 without replicas.

    ``nodes`` None: whatever it holds, and a single server if it is new. Raises OperatorError if it holds another kind.
    ``options`` adds or replaces the servers' own.
    """
    layout = cluster_layout.kept(held.path)
    if nodes is None:
        nodes, replicas = (1, 0) if layout is None else (layout.masters, layout.replicas)
    if layout is None and (nodes, replicas) == (1, 0):
        return EmbeddedRedis(held, appendfsync=appendfsync, options=options)
    return EmbeddedRedisCluster(held, nodes=nodes, replicas=replicas, appendfsync=appendfsync, options=options)


def urls(path: Path) -> Servers:
    """The URLs of a data directory's servers, whether they run or not."""
    layout = cluster_layout.kept(path)
    redis_url = redis.url(path) if layout is None else layout.url
    return Servers(redis_url=redis_url, database_url=postgres.url(path))


def is_running(path: Path) -> bool:
    """Whether both servers of a data directory accept connections at this moment."""
    return None not in running(path)


def running(path: Path) -> tuple[str | None, str | None]:
    """The URLs of a data directory's Redis and Postgres. None if a server accepts no connections at this moment.

    A cluster runs if a node answers.
    """
    found, layout = urls(path), cluster_layout.kept(path)
    is_redis = _accepts(data_dir.redis_socket(path)) if layout is None else redis_node.one_answers(layout)
    return (
        found.redis_url if is_redis else None,
        found.database_url if _accepts(data_dir.postgres_socket_dir(path) / _SOCKET) else None,
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
    """The folders that hold a data directory's files. The directory itself is last.

    The Postgres cluster and the sockets are elsewhere if the servers' account cannot reach the directory.
    """
    folder = path.resolve()
    sockets = {data_dir.redis_socket(path).parent, data_dir.postgres_socket_dir(path)}
    elsewhere = {place for place in sockets if place.exists() and not place.is_relative_to(folder)}
    if (cluster := postgres.own_cluster_elsewhere(folder / "postgres")) is not None:
        elsewhere.add(cluster)
    return [*sorted(elsewhere), folder]


def remove(path: Path) -> None:
    """Delete a data directory for good, with the folders that ``places`` finds elsewhere. It must not be in use."""
    with hold(path):
        for place in places(path):
            shutil.rmtree(place)


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        connection.settimeout(1.0)
        connection.connect(str(path))
        return True
    return False
