"""Which master of a cluster holds which lane, and how to spread lanes: by their hashes, few of them lie unevenly."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from engine.connected import Connected, urls_of
from engine.errors import OperatorError
from engine.lanes import keys
from engine.lanes.cluster import Cluster
from engine.lanes.failures import redis_errors
from engine.lanes.slot_moves import Master, masters_of
from engine.lanes.topology import cluster_of
from engine.ledger.database import ledger_errors
from engine.queries import load
from engine.recovery.moving import LaneMove, Moved
from engine.redis_servers import servers_in
from engine.settings import Settings

SQL = load("lanes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """Open with ``async with Placing.open(settings) as placing``. ``lanes``: those in the ledger."""

    connected: Connected
    cluster: Cluster
    masters: Sequence[Master]
    lanes: Sequence[int]

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator["Placing"]:
        """Connect to everything. Raises OperatorError, also if the setting names no cluster, and UnavailableError."""
        (server, *others) = servers_in(urls_of(settings).redis)
        if others or not server.cluster:
            raise OperatorError(
                "HONGBAO_REDIS_URL does not name one cluster: lanes move only between the servers of one "
                "(docs/operations.md)."
            )
        async with Connected.open(settings) as connected:
            cluster = cluster_of(server, timeout_s=settings.redis_timeout_s)
            with redis_errors():
                masters = await masters_of(server, cluster, timeout_s=settings.redis_timeout_s)
            try:
                with ledger_errors():
                    lanes = [row["lane"] for row in await connected.pool.fetch(SQL["all"])]
                yield cls(connected=connected, cluster=cluster, masters=masters, lanes=lanes)
            finally:
                for master in masters:
                    await master.client.aclose()

    async def holder_of(self, lane: int) -> Master:
        """The master that holds a lane. Raises OperatorError if there is no such lane, and UnavailableError."""
        if lane not in self.lanes:
            raise OperatorError(f"There is no lane {lane} in the ledger.")
        with redis_errors():
            address = await self.cluster.master_of(keys.slot(lane))
        for master in self.masters:
            if master.address == address:
                return master
        raise OperatorError(f"The master of lane {lane}, {address[0]}:{address[1]}, is away: move it once it is back.")

    async def named(self, name: str) -> Master:
        """The master with this host and port, or with this name in the cluster. Raises OperatorError."""
        for master in self.masters:
            if master.place == name:
                return master
        with redis_errors():
            for master in self.masters:
                if await master.name() == name:
                    return master
        places = ", ".join(master.place for master in self.masters)
        raise OperatorError(f"No master of the cluster is called {name}: --to must be one of {places}.")

    async def held(self) -> dict[str, list[int]]:
        """Each master's place, and its lanes. Raises UnavailableError."""
        found: dict[str, list[int]] = {master.place: [] for master in self.masters}
        for lane in self.lanes:
            found.setdefault((await self.holder_of(lane)).place, []).append(lane)
        return found

    async def move(self, lane: int, target: Master, tell: Callable[[str], None]) -> Moved | None:
        """Move a lane. None if it is there already. Raises as ``LaneMove.run``."""
        source = await self.holder_of(lane)
        if source.address == target.address:
            return None
        connected = self.connected
        return await LaneMove(connected.pool, connected.store, lane, source, target).run(tell)


def even(held: Mapping[str, Sequence[int]]) -> list[tuple[int, str]]:
    """The fewest moves (lane, where to) after which no master holds two lanes more than another."""
    left = {place: sorted(lanes) for place, lanes in held.items()}
    least, more = divmod(sum(map(len, left.values())), len(left))
    # Those that hold most keep one more, so that as few as possible are moved.
    order = sorted(left, key=lambda place: (-len(left[place]), place))
    wanted = {place: least + (number < more) for number, place in enumerate(order)}
    spare = [lane for place in order for lane in left[place][wanted[place] :]]
    room = [place for place in order for _ in range(wanted[place] - len(left[place]))]
    return sorted(zip(spare, room, strict=True))
