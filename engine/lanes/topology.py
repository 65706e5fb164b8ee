"""Which server holds a lane? Everything that speaks to a lane's server asks here for it.

No call ever spans lanes: every script, read and transaction is about one lane. What concerns several lanes is split by
node first, so that a server is asked once, and one that does not answer takes only its own lanes with it.

In a cluster each lane is a node of its own, because each slot may be moved by itself. A lane's connections find its
master each time that they are made (``cluster``), so nothing here changes while slots move.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypedDict

from redis.asyncio import Redis

from engine.errors import OperatorError, UnavailableError
from engine.lanes import keys
from engine.lanes.clients import redis_client, redis_connection, redis_connections
from engine.lanes.cluster import Cluster, SlotHolder
from engine.lanes.connections import Connections
from engine.lanes.failures import redis_errors
from engine.lanes.locating import Locator
from engine.lanes.sentinels import Sentinels
from engine.redis_servers import RedisServer, servers_in
from engine.settings import LANES_MAX

_READING_CONNECTIONS = 8
_CHANGING_CONNECTIONS = 8
_ENDED_CONNECTIONS = 4
"""Kept connections, besides one per possible call, for reading packets that have ended."""


class _Common(TypedDict):
    """What all clients of a node have."""

    timeout_s: float
    locator: Locator | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Node:
    """One server, or whichever server of a cluster holds one lane.

    ``fixed_place``: its host and port, or its Sentinels' name of it, if there are several; never its password.
    ``holder``, ``lane``: in a cluster, the lane, and who knows its server.

    ``streams``: the client by which event streams are read. A blocking read occupies a connection nearly always, so
    whoever follows lanes has a client for it. ``claiming``: kept connections for claims and for reading packets that
    have ended; ``changing``: kept ones for the other scripts. Without them everything goes by ``client``.
    """

    client: Redis
    streams: Redis
    claiming: Connections | None = None
    changing: Connections | None = None
    fixed_place: str = ""
    holder: SlotHolder | None = None
    lane: int | None = None

    @property
    def place(self) -> str:
        """Where it is, or in a cluster: where the lane's master was last. Empty if there is only one server."""
        return self.fixed_place if self.holder is None else self.holder.place

    def is_beside(self, other: "Node") -> bool:
        """Whether both are on the same server: if it is away, so are both."""
        return self is other or (self.place == other.place and self.holder is not None)

    @property
    def name(self) -> str:
        """What a sentence calls it."""
        return f"Redis at {self.place}" if self.place else "Redis"

    async def disconnect(self) -> None:
        """Close the clients' connections: the server's address may lead to another by now."""
        for client in dict.fromkeys((self.client, self.streams)):
            await client.connection_pool.disconnect()

    async def aclose(self) -> None:
        """Close everything. No call may be under way."""
        for kept in (self.claiming, self.changing):
            if kept is not None:
                await kept.aclose()
        for client in dict.fromkeys((self.streams, self.client)):
            await client.aclose()


class Topology:
    """``held``: lane -> the node that holds it. ``nodes``: each node once, in the order of their lanes."""

    def __init__(self, held: Mapping[int, Node]) -> None:
        self._held = held
        self.nodes = tuple(dict.fromkeys(held[lane] for lane in sorted(held)))

    @classmethod
    def of_one(cls, node: Node | Redis) -> "Topology":
        """Every lane on one server. A client alone does everything there."""
        if isinstance(node, Redis):
            node = Node(client=node, streams=node)
        return cls(dict.fromkeys(range(LANES_MAX), node))

    def node_of(self, lane: int) -> Node:
        """The server that holds a lane. Raises UnavailableError if none does."""
        node = self._held.get(lane)
        if node is None:
            raise UnavailableError(f"HONGBAO_REDIS_URL names no server for lane {lane}.", is_undone=True)
        return node

    def by_node(self, lanes: Iterable[int]) -> dict[Node, list[int]]:
        """These lanes by the servers that hold them, in their order. Raises UnavailableError if one has none."""
        found: dict[Node, list[int]] = {}
        for lane in lanes:
            found.setdefault(self.node_of(lane), []).append(lane)
        return found

    async def locate(self, lane: int) -> None:
        """In a cluster, ask where the lane is now, so that its node's ``place`` is right. Raises UnavailableError."""
        if (holder := self.node_of(lane).holder) is not None:
            with redis_errors():
                await holder.address()

    def holds(self, lane: int) -> bool:
        """Whether a server holds the lane."""
        return lane in self._held

    async def aclose(self) -> None:
        """Close everything. No call may be under way."""
        for node in self.nodes:
            await node.aclose()


def reading(servers: str, *, timeout_s: float, lanes: Iterable[int] = range(LANES_MAX)) -> Topology:
    """For those who only read. ``servers``: HONGBAO_REDIS_URL. ``lanes``: those that may be read, if it is a cluster.

    Raises OperatorError if the URL cannot be used.
    """

    def node(server: RedisServer, _held: int, locator: Locator | None) -> Node:
        client = redis_client(
            server.client_url, connections_max=_READING_CONNECTIONS, timeout_s=timeout_s, locator=locator
        )
        return Node(fixed_place=_place(server), client=client, streams=client)

    return _topology(servers, lanes, timeout_s, node)


def serving(servers: str, *, lanes: int, calls_per_lane_max: int, timeout_s: float) -> Topology:
    """For a process that claims, changes and follows lanes 0 to ``lanes`` - 1. Raises OperatorError as above."""

    def node(server: RedisServer, held: int, locator: Locator | None) -> Node:
        url, place = server.client_url, _place(server)
        common = _Common(timeout_s=timeout_s, locator=locator)
        # One connection per possible call, so that a claim never waits for one.
        calls_max = held * calls_per_lane_max + _ENDED_CONNECTIONS
        return Node(
            fixed_place=place,
            client=redis_client(url, connections_max=_READING_CONNECTIONS, **common),
            streams=redis_client(url, connections_max=held + 1, **common),
            claiming=redis_connections(url, connections_max=calls_max, **common, place=place),
            changing=redis_connections(url, connections_max=_CHANGING_CONNECTIONS, **common, place=place),
        )

    return _topology(servers, range(lanes), timeout_s, node)


def _place(server: RedisServer) -> str:
    return "" if server.lanes is None else server.place


def _topology(
    servers: str, lanes: Iterable[int], timeout_s: float, node: Callable[[RedisServer, int, Locator | None], Node]
) -> Topology:
    """``node``: makes one for a server that holds so many lanes, and that a locator may know."""
    try:
        found = servers_in(servers)
    except ValueError as error:
        raise OperatorError(f"HONGBAO_REDIS_URL cannot be used: {error}.") from None
    lanes, held = list(lanes), dict[int, Node]()
    for server in found:
        if server.cluster:
            cluster = cluster_of(server, timeout_s=timeout_s)
            for lane in lanes if server.lanes is None else server.lanes:
                holder = SlotHolder(cluster, keys.slot(lane))
                held[lane] = replace(node(server, 1, holder), holder=holder, lane=lane)
            continue
        locator = None if (watched := server.watched) is None else Sentinels(watched, timeout_s=timeout_s)
        of_server = range(LANES_MAX) if server.lanes is None else server.lanes
        held |= dict.fromkeys(of_server, node(server, len(lanes if server.lanes is None else of_server), locator))
    return Topology(held)


def cluster_of(server: RedisServer, *, timeout_s: float) -> Cluster:
    """The cluster of which a setting names some servers."""
    connection = partial(redis_connection, server.client_url, timeout_s=timeout_s)
    return Cluster(server.cluster, connection, timeout_s=timeout_s)
