"""The nodes of a cluster, as they describe themselves: who holds which lane, who replicates whom, what is missing."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from redis.exceptions import RedisError

from engine.embedded import cluster_forming, cluster_layout
from engine.embedded.redis_node import RedisNode
from engine.lanes import keys

_AWAY = (RedisError, OSError)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A node as another one, or itself, sees it. ``master``: the node whose replica it is, or empty."""

    node_id: str
    master: str
    slots: tuple[range, ...]


class Nodes:
    """Every method asks the nodes at that moment, and blocks for up to a second for each that hangs."""

    def __init__(self, data_dir: Path, lanes: int) -> None:
        layout = cluster_layout.kept(data_dir)
        if layout is None:
            raise ValueError(f"{data_dir} holds no cluster")
        self._layout, self._lanes = layout, lanes
        folder = cluster_layout.folder(data_dir)
        self.all: Sequence[RedisNode] = [
            RedisNode(f"redis-{number}", folder / str(number), ports=ports, password=layout.password, options={})
            for number, ports in enumerate(layout.ports, start=1)
        ]

    @property
    def password(self) -> str:
        """That of every node."""
        return self._layout.password

    def why_not_whole(self) -> str | None:
        """What is missing until all nodes serve, agree, and replicate. None: nothing."""
        why = cluster_forming.why_not_whole(self.all, self._layout)
        if why is not None:
            return why
        views = self._views()
        for lane in range(self._lanes):
            if len(_ports(views, lane)) != 1:
                return f"the nodes do not agree who holds lane {lane}"
        return None

    def holder_of(self, lane: int) -> RedisNode | None:
        """The node that holds a lane. None while those that answer do not agree."""
        ports = _ports(self._views(), lane)
        return next(node for node in self.all if node.port in ports) if len(ports - {0}) == len(ports) == 1 else None

    def lanes_of(self, master: RedisNode) -> tuple[int, ...]:
        """The lanes that a node holds, as it says itself. Raises RedisError and OSError."""
        slots = _view(master)[master.port].slots
        return tuple(lane for lane in range(self._lanes) if any(keys.slot(lane) in some for some in slots))

    def least_besides(self, source: RedisNode) -> RedisNode:
        """Of the other masters, the one that holds the fewest lanes. Raises RedisError and OSError."""
        seen = _view(source)
        others = [node for node in self.all if node is not source and seen[node.port].slots]
        return min(others, key=lambda node: len(self.lanes_of(node)))

    def replica_of(self, master: RedisNode) -> RedisNode:
        """A master's replica, as the master sees it. Raises RedisError, OSError, and LookupError if it has none."""
        seen = _view(master)
        own = seen[master.port].node_id
        ports = {port for port, other in seen.items() if other.master == own}
        found = [node for node in self.all if node.port in ports]
        if not found:
            raise LookupError(f"{master.name} has no replica")
        return found[0]

    def has_all_of(self, replica: RedisNode, master: RedisNode) -> bool:
        """Whether a replica has all that its master had when this was called. Raises RedisError and OSError."""
        given, told = master.info("replication")["master_repl_offset"], replica.info("replication")
        has = told.get("slave_repl_offset")
        is_connected = told.get("master_link_status") == "up"
        return is_connected and isinstance(given, int) and isinstance(has, int) and has >= given

    def is_master(self, node: RedisNode) -> bool:
        """Whether a node believes that it is one. Raises RedisError and OSError."""
        return node.info("replication")["role"] == "master"

    def _views(self) -> list[dict[int, _Seen]]:
        """What each node that answers knows."""
        views = []
        for node in self.all:
            with contextlib.suppress(*_AWAY):
                views.append(_view(node))
        return views


def _view(node: RedisNode) -> dict[int, _Seen]:
    """The nodes that one knows, by port. Raises RedisError and OSError."""
    found = {}
    for line in node.ask("CLUSTER", "NODES").splitlines():
        node_id, address, _flags, master, _ping, _pong, _epoch, _link, *slots = line.split(" ")
        port = int(address.partition("@")[0].rpartition(":")[2])
        found[port] = _Seen(node_id, master.strip("-"), tuple(_range(words) for words in slots if words[0] != "["))
    return found


def _ports(views: list[dict[int, _Seen]], lane: int) -> set[int]:
    """The nodes that hold a lane, by these views. 0: some view has none."""
    slot, found = keys.slot(lane), set[int]()
    for view in views:
        found |= {port for port, seen in view.items() if any(slot in slots for slots in seen.slots)} or {0}
    return found


def _range(words: str) -> range:
    first, _, last = words.partition("-")
    return range(int(first), int(last or first) + 1)
