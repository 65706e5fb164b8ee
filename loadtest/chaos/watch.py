"""Watches the ledger's lag behind Redis, and when the ledger had everything. Cuts do not affect it."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from redis.exceptions import RedisError

from engine.embedded import servers as embedded
from engine.errors import HongbaoError
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.topology import Topology, reading
from engine.ledger.failures import DATABASE_ERRORS
from loadtest.chaos.history import Carried, History

_EACH_S = 0.4
_ANSWER_S_MAX = 3.0
_AWAY = (HongbaoError, RedisError, OSError, TimeoutError, *DATABASE_ERRORS)


@dataclass(slots=True)
class Watch:
    """``behind_max``: the ledger's largest lag in changes, over all lanes. ``behind``: the lag at the last look."""

    data_dir: Path
    history: History
    lanes: int
    behind: int | None = None
    behind_max: int = 0

    async def run(self) -> None:
        """Look repeatedly."""
        while True:
            await self.look()
            await asyncio.sleep(_EACH_S)

    async def look(self) -> None:
        """Look once. ``behind`` is None if a server does not answer or a lane is lost or fenced."""
        now_s = self.history.now_s()
        try:
            self.behind = await self._behind()
        except _AWAY:
            self.behind = None
        if self.behind is not None:
            self.behind_max = max(self.behind_max, self.behind)
            if self.behind == 0:
                self.history.add(Carried(at_s=now_s))

    async def _behind(self) -> int | None:
        """Read Redis first: the ledger, which is read afterwards, must have everything that Redis had given by then."""
        servers = embedded.urls(self.data_dir)
        topology = reading(servers.redis_url, timeout_s=_ANSWER_S_MAX, lanes=range(self.lanes))
        try:
            async with asyncio.timeout(_ANSWER_S_MAX):  # not around the end, which closes all connections
                given = await self._given(topology)
        finally:
            await topology.aclose()
        if given is None:
            return None
        connection = await asyncpg.connect(servers.database_url, timeout=_ANSWER_S_MAX, command_timeout=_ANSWER_S_MAX)
        try:
            rows = await connection.fetch("SELECT lane, epoch, position FROM lanes")
        finally:
            await connection.close(timeout=_ANSWER_S_MAX)
        carried: dict[int, tuple[str, int]] = {row["lane"]: (row["epoch"], row["position"]) for row in rows}
        if any(carried.get(lane, ("", 0))[0] != epoch for lane, (epoch, _) in given.items()):
            return None
        return sum(max(0, position - carried[lane][1]) for lane, (_, position) in given.items())

    async def _given(self, topology: Topology) -> dict[int, tuple[str, int]] | None:
        """Each lane's epoch and position in Redis. None if one is lost or fenced."""
        given: dict[int, tuple[str, int]] = {}
        for lane in range(self.lanes):
            client = topology.node_of(lane).client
            lane_token, position = await command(client, "HMGET", keys.lane(lane), "epoch", "position")
            if not lane_token or position is None:
                return None
            given[lane] = (lane_token.decode().partition("@")[0], int(position))  # the server follows the epoch
        return given
