"""A batcher of one lane, on the real store, watched and sometimes held back."""

import asyncio
from collections.abc import Mapping, Sequence

from redis.asyncio import Redis

from engine.claiming.batcher import Batcher
from engine.lanes.connections import Lent
from engine.lanes.store import Store
from engine.lanes.topology import Topology
from engine.records import ClaimReply
from engine.settings import Settings
from tests.support.lane import LANE, acks_of


class WatchedStore(Store):
    """The store, noting each call; calls wait while ``gate`` is closed."""

    def __init__(self, client: Redis, epochs: Mapping[int, str]) -> None:
        super().__init__(Topology.of_one(client), epochs)
        self.calls: list[dict[str, list[str]]] = []
        self.in_flight = self.in_flight_max = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def claim(
        self, lane: int, asked: Mapping[str, Sequence[str]], *, backlog_max: int, lent: Lent | None = None
    ) -> ClaimReply:
        self.calls.append({packet: list(hands) for packet, hands in asked.items()})
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight, self.in_flight_max)
        try:
            await self.gate.wait()
            return await super().claim(lane, asked, backlog_max=backlog_max, lent=lent)
        finally:
            self.in_flight -= 1

    @property
    def sizes(self) -> list[int]:
        return [sum(map(len, call.values())) for call in self.calls]


def batcher_of(
    store: Store, *, per_call_max: int = 500, queue_max: int = 1_000, calls_max: int = 2, backlog_max: int = 10_000
) -> Batcher:
    settings = Settings.model_construct(
        claims_per_call_max=per_call_max,
        claim_queue_max=queue_max,
        calls_in_flight_max=calls_max,
        backlog_max=backlog_max,
    )
    return Batcher(store, LANE, settings, set(), acks_of(store, settings))
