"""Makes a Redis Cluster of running nodes, in steps that may be repeated: a kill in between does no harm."""

from collections.abc import Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError

from engine.embedded.cluster_layout import LOOPBACK, Layout
from engine.embedded.redis_node import RedisNode

SLOTS = 16_384
_NOT_WELL = frozenset(("handshake", "fail", "fail?", "noaddr"))


@dataclass(frozen=True, slots=True)
class _Seen:
    """A node as another one, or itself, sees it: a line of CLUSTER NODES."""

    node_id: str
    flags: frozenset[str]
    epoch: int
    has_slots: bool


def slots_of(index: int, masters: int) -> range:
    """The slots of a master at first: an equal share, as `redis-cli --cluster create` gives it."""
    return range(*(round(SLOTS * number / masters) for number in (index, index + 1)))


def form(nodes: Sequence[RedisNode], layout: Layout) -> None:
    """Do what can be done now: slots, acquaintance, replicas. The rest has to wait until the nodes have talked."""
    try:
        views = [_view(node) for node in nodes]
        for index, (node, view) in enumerate(zip(nodes, views, strict=True)):
            _form_alone(node, view[node.port], index, layout, is_alone=len(view) == 1)
        first, known = nodes[0], views[0]
        for node in nodes:
            if node.port not in known:
                first.ask("CLUSTER", "MEET", LOOPBACK, node.port, node.bus_port)
        for index, (node, view) in enumerate(zip(nodes, views, strict=True)):
            _replicate(node, view, nodes, layout.master_of(index))
    except (RedisError, OSError):
        return  # a node that is away comes back, and ``why_not_whole`` says what is missing


def why_not_whole(nodes: Sequence[RedisNode], layout: Layout) -> str | None:
    """What a node still lacks, or None: every node serves, knows all others as they are, and replicates."""
    for node in nodes:
        try:
            why = _why_not_well(node, nodes, layout)
        except (RedisError, OSError) as error:
            why = f"it does not answer ({error})"
        if why is not None:
            return f"{node.name}: {why}"
    return None


def _form_alone(node: RedisNode, seen: _Seen, index: int, layout: Layout, *, is_alone: bool) -> None:
    """What a node needs no other for. Different epochs from the beginning spare the nodes a quarrel over them."""
    if is_alone and seen.epoch == 0:
        node.ask("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
    if layout.master_of(index) is None and not seen.has_slots:
        slots = slots_of(index, layout.masters)
        node.ask("CLUSTER", "ADDSLOTSRANGE", slots[0], slots[-1])


def _replicate(node: RedisNode, view: dict[int, _Seen], nodes: Sequence[RedisNode], master: int | None) -> None:
    """Make it a replica as soon as it knows its master."""
    seen = None if master is None else view.get(nodes[master].port)
    if seen is not None and not seen.flags & _NOT_WELL and "master" in view[node.port].flags:
        node.ask("CLUSTER", "REPLICATE", seen.node_id)


def _why_not_well(node: RedisNode, nodes: Sequence[RedisNode], layout: Layout) -> str | None:
    info = dict(line.split(":", 1) for line in node.ask("CLUSTER", "INFO").splitlines())
    view = _view(node)
    if info.get("cluster_slots_assigned") != str(SLOTS):
        return f"it knows the masters of {info.get('cluster_slots_assigned')} of {SLOTS} slots"
    if view.keys() != {other.port for other in nodes} or any(seen.flags & _NOT_WELL for seen in view.values()):
        return "it does not see every other node"
    if sum("slave" in seen.flags for seen in view.values()) != layout.masters * layout.replicas:
        return "it does not see every replica"
    if info.get("cluster_state") != "ok":
        return f"its cluster_state is {info.get('cluster_state')}"
    if "slave" in view[node.port].flags and node.info("replication").get("master_link_status") != "up":
        return "it has no connection to its master"
    return None


def _view(node: RedisNode) -> dict[int, _Seen]:
    """The nodes that one knows, by port. A node that was met a moment ago has no name yet, but it has a port."""
    view = {}
    for line in node.ask("CLUSTER", "NODES").splitlines():
        node_id, address, flags, _master, _ping, _pong, epoch, _link, *slots = line.split(" ")
        port = int(address.partition("@")[0].rpartition(":")[2])
        view[port] = _Seen(node_id, frozenset(flags.split(",")), int(epoch), bool(slots))
    return view
