"""Asks the servers of a Redis or Valkey Cluster which of them holds a slot.

redis-py's cluster client is not used (ARCHITECTURE.md says why). No call ever spans lanes, and all keys of a lane are
in one slot. So all that is needed is a lane's server, asked for by each new connection (``locating``).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, NamedTuple

from redis.asyncio import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from engine.lanes.locating import Address, Shared

_MOVED_S = 0.2
"""How long a redirection is believed more than the servers' map, which may be older."""
_SERVERS_MAX = 64
"""How many servers are remembered to be asked, besides those of the setting."""
_HEALTHY = b"cluster_state:ok"


class _Range(NamedTuple):
    first: int
    last: int
    master: Address
    replicas: tuple[Address, ...]


class Cluster:
    """One cluster. ``seeds``: the servers of the setting. ``connection``: makes one to whatever address it is given.

    ``timeout_s`` bounds a question to all servers: each gets an equal part of what is left of it.
    """

    def __init__(
        self, seeds: Iterable[Address], connection: Callable[[Address], Connection], *, timeout_s: float
    ) -> None:
        self._seeds = tuple(dict.fromkeys(seeds))
        self._connection, self._timeout_s = connection, timeout_s
        self._order = deque(self._seeds)
        self._moved: dict[int, tuple[Address, float]] = {}
        self._ranges = Shared(self._ask)

    async def master_of(self, slot: int) -> Address:
        """Where the slot's master is. All who ask at the same time share one question.

        Raises redis.exceptions.ConnectionError if no server that is asked is part of a majority, or none holds the
        slot. If one of them was waited for in vain, and no other helped, it is that module's TimeoutError.
        """
        address, until_s = self._moved.get(slot, (("", 0), 0.0))
        if monotonic() < until_s:
            return address
        for first, last, master, _ in await self._ranges.get():
            if first <= slot <= last:
                return master
        raise RedisConnectionError(f"no server of the cluster holds slot {slot}")

    async def masters(self) -> dict[Address, int]:
        """The masters that hold slots, and how many each holds. Raises as ``master_of``."""
        found: dict[Address, int] = {}
        for first, last, master, _ in await self._ranges.get():
            found[master] = found.get(master, 0) + last - first + 1
        return found

    def moved(self, slot: int, address: Address) -> None:
        """Note that a server redirects the slot."""
        self._moved[slot] = (address, monotonic() + _MOVED_S)
        self._ranges.forget()

    def doubt(self, slot: int) -> None:
        """Note that the slot's address leads nowhere: who named it may know less than the others."""
        self._moved.pop(slot, None)
        self._ranges.forget()
        self._order.rotate(-1)

    async def _ask(self) -> list[_Range]:
        whys: list[str] = []
        kind: type[RedisError] = RedisConnectionError
        ends_s = monotonic() + self._timeout_s
        order = tuple(self._order)
        for number, address in enumerate(order):
            try:
                async with asyncio.timeout((ends_s - monotonic()) / (len(order) - number)):
                    ranges = await self._asked(address)
            except (RedisError, OSError, TimeoutError) as error:
                kind = RedisTimeoutError if isinstance(error, (TimeoutError, RedisTimeoutError)) else kind
                whys.append(f"{address[0]}:{address[1]}: {str(error) or type(error).__name__}")
                self._order.rotate(-1)  # the next time, those that answer come first
            else:
                self._remember(address, ranges)
                return ranges
        raise kind(f"no server of the cluster knows its slots ({'; '.join(whys)})")

    async def _asked(self, address: Address) -> list[_Range]:
        """What one server says. One that is cut off from the majority does not know who holds what."""
        connection = self._connection(address)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_command("CLUSTER", "INFO")
            if _HEALTHY not in await connection.read_response():
                raise RedisConnectionError("its cluster_state is not ok")
            await connection.send_command("CLUSTER", "SLOTS")
            found: list[Any] = await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)
        if not found:
            raise RedisConnectionError("its cluster has no slots")
        return [
            _Range(first, last, *_split([_address(node, address[0]) for node in nodes]))
            for first, last, *nodes in found
        ]

    def _remember(self, answered: Address, ranges: Iterable[_Range]) -> None:
        """Ask the servers that there are now, too: those of the setting may all be replaced one day."""
        known = dict.fromkeys((answered, *self._order, *self._seeds))
        present = dict.fromkeys(address for found in ranges for address in (found.master, *found.replicas))
        kept = [address for address in known if address in present or address in self._seeds or address == answered]
        kept += [address for address in present if address not in known]
        self._order = deque(kept[: len(self._seeds) + _SERVERS_MAX])


class SlotHolder:
    """The master of one slot, as connections ask for it."""

    def __init__(self, cluster: Cluster, slot: int) -> None:
        self.cluster, self._slot = cluster, slot
        self._last: Address = ("", 0)

    @property
    def place(self) -> str:
        """Where the master was when it was last asked for, for people."""
        host, port = self._last
        return f"{host}:{port}" if port else f"the cluster (slot {self._slot})"

    async def address(self) -> Address:
        """Raises as ``Cluster.master_of``."""
        self._last = await self.cluster.master_of(self._slot)
        return self._last

    def doubt(self) -> None:
        """No connection could be made."""
        self.cluster.doubt(self._slot)

    def moved(self, host: str, port: int) -> None:
        """The server at the address redirects."""
        self.cluster.moved(self._slot, (host or self._last[0], port))


def _split(addresses: list[Address]) -> tuple[Address, tuple[Address, ...]]:
    return addresses[0], tuple(addresses[1:])


def _address(node: list[Any], asked_host: str) -> Address:
    """A server in CLUSTER SLOTS's reply. One that does not know its own host is at the one that was asked."""
    host, port, *_ = node
    named = (host or b"").decode()
    return (named if named not in ("", "?") else asked_host), int(port)
