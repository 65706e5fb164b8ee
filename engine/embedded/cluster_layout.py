"""What a data directory keeps of its Redis Cluster: how many nodes, their ports, the password. One private file."""

import contextlib
import os
import secrets
import socket
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import orjson

from engine.errors import OperatorError

LOOPBACK = "127.0.0.1"
FOLDER_NAME = "redis-cluster"
_PORTS = range(20_000, 32_000)
"""Below those that Linux and macOS give to outgoing connections: a stopped node finds its port free again."""
_TRIES_MAX = 1_000
_PASSWORD_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The masters come first, then the replicas. Their roles may have changed since the cluster was formed."""

    masters: int
    replicas: int
    """Of each master."""
    ports: tuple[tuple[int, int], ...]
    """A node's port for clients, and its port for the other nodes."""
    password: str = field(repr=False)
    is_formed: bool = False

    @property
    def url(self) -> str:
        """The URL that names every node."""
        hosts = ",".join(f"{LOOPBACK}:{port}" for port, _ in self.ports)
        return f"redis+cluster://:{self.password}@{hosts}"

    def master_of(self, index: int) -> int | None:
        """The index of the master that a node replicates at first. None: it is a master."""
        return index % self.masters if index >= self.masters else None


def folder(path: Path) -> Path:
    """The folder of a data directory's cluster."""
    return path.resolve() / FOLDER_NAME


def kept(path: Path) -> Layout | None:
    """The layout of a data directory's cluster. None if it has none. Raises OperatorError for a damaged file."""
    file = _file(path)
    try:
        read = orjson.loads(file.read_bytes())
        return Layout(**{**read, "ports": tuple((port, bus_port) for port, bus_port in read["ports"])})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError):
        raise OperatorError(f"{file} is damaged: restore it, or start with an empty data directory.") from None


def kept_or_made(path: Path, *, masters: int, replicas: int) -> Layout:
    """The data directory's layout, made if it has no Redis yet. Raises OperatorError if it holds another one."""
    check(path, masters=masters, replicas=replicas)
    layout = kept(path)
    if layout is None:
        ports = _free_ports(2 * masters * (1 + replicas))
        pairs = tuple(zip(ports[::2], ports[1::2], strict=True))
        password = secrets.token_hex(_PASSWORD_BYTES)
        layout = Layout(masters=masters, replicas=replicas, ports=pairs, password=password)
        keep(path, layout)
    return layout


def check(path: Path, *, masters: int, replicas: int) -> None:
    """Raise OperatorError if the data directory already holds a Redis that is not this kind of cluster."""
    layout = kept(path)
    if layout is None:
        if (path.resolve() / "redis").exists():
            raise OperatorError(
                f"{path.resolve()} holds a single Redis, not a cluster: "
                "start it without --redis-nodes, or choose an empty data directory."
            )
    elif (layout.masters, layout.replicas) != (masters, replicas):
        raise OperatorError(
            f"{path.resolve()} holds a Redis Cluster of {_counted(layout.masters, 'master')} with "
            f"{_counted(layout.replicas, 'replica')} each: start it without --redis-nodes, "
            "or choose an empty data directory."
        )


def keep(path: Path, layout: Layout) -> None:
    """Write the file. A kill leaves the old one or the new one."""
    folder(path).mkdir(mode=0o700, exist_ok=True)
    write_private(_file(path), orjson.dumps(asdict(layout), option=orjson.OPT_INDENT_2))


def keep_formed(path: Path, layout: Layout) -> Layout:
    """Note that the cluster is formed: a later start must not do it again."""
    formed = replace(layout, is_formed=True)
    keep(path, formed)
    return formed


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only we may read, all of it or nothing."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def is_free(port: int) -> bool:
    """Whether a server could listen on a loopback port now. Connections that are closing do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return True
    return False


def _free_ports(count: int) -> list[int]:
    """Different ports that nobody has. They are held until all are found."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        for _ in range(_TRIES_MAX):
            if len(found) == count:
                return found
            probe, port = stack.enter_context(socket.socket()), secrets.choice(_PORTS)
            with contextlib.suppress(OSError):
                probe.bind((LOOPBACK, port))
                found.append(port)
    raise OperatorError(f"There are no {count} free ports from {_PORTS.start} to {_PORTS.stop - 1}: stop some servers.")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count or 'no'} {noun}s"


def _file(path: Path) -> Path:
    return folder(path) / "cluster.json"
