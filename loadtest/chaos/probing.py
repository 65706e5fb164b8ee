"""Claims in every lane all the time, so that it is seen when a lane stops serving and when it serves again."""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from engine.ids import lane_of
from loadtest.chaos.asking import Client

SENDER = "chaos-prober"
EACH_S = 0.1
"""The time between two claims in a lane. No claim waits for the one before it."""
_COUNT = 1_500
_SHARES_LEAST = 600
_UNDER_WAY_MAX = 25
_DEPOSIT_FEN = 10_000_000_000
_TTL_S = 86_400
_AGAIN_S = 0.2


@dataclass(slots=True)
class Prober:
    """Each claim is a new user's in its packet, so whoever answers it must have asked the lane's server.

    ``everywhere``: set as soon as there is a packet in every lane.
    """

    client: Client
    lanes: int
    stopping: asyncio.Event
    everywhere: asyncio.Event = field(default_factory=asyncio.Event)
    _packets: dict[int, deque[str]] = field(default_factory=dict)
    _asked: dict[int, int] = field(default_factory=dict)
    _sent: int = 0

    async def run(self) -> None:
        """Claim in every lane until ``stopping``."""
        while (await self.client.deposit(SENDER, f"{SENDER}-first", _DEPOSIT_FEN)).status != 201:
            if self.stopping.is_set():
                return
            await asyncio.sleep(_AGAIN_S)
        self._packets = {lane: deque() for lane in range(self.lanes)}
        self._asked = dict.fromkeys(range(self.lanes), 0)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send())
            for lane in range(self.lanes):
                group.create_task(self._claim(lane))

    async def _send(self) -> None:
        """Send packets while a lane has few shares left. Chance says in which lane one is, so others get some, too."""
        while not self.stopping.is_set():
            if all(len(sent) * _COUNT - self._asked[lane] > _SHARES_LEAST for lane, sent in self._packets.items()):
                await asyncio.sleep(_AGAIN_S)
                continue
            terms = {"count": _COUNT, "total_fen": _COUNT * 10, "split": "lucky", "ttl_s": _TTL_S}
            sent = await self.client.send(SENDER, f"probe-{self._sent}", terms)
            if sent.status == 201:
                self._sent += 1
                self._packets[lane_of(sent.packet_id)].append(sent.packet_id)
                if all(self._packets.values()):
                    self.everywhere.set()
            else:
                await asyncio.sleep(_AGAIN_S)

    async def _claim(self, lane: int) -> None:
        under_way = set[asyncio.Task[object]]()
        while not self.stopping.is_set():
            packets = self._packets[lane]
            if packets and len(under_way) < _UNDER_WAY_MAX:
                number = self._asked[lane]
                task: asyncio.Task[object] = asyncio.create_task(
                    self.client.claim(packets[0], f"chaos-probe-{number:04d}")
                )
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                self._asked[lane] += 1
                if self._asked[lane] == _COUNT:
                    self._asked[lane] = 0
                    packets.popleft()
            await asyncio.sleep(EACH_S)
        await asyncio.gather(*under_way)
