"""What a process remembers of packets that have ended. They never change again, so Redis need not be asked.

It remembers only packets that anyone may claim and that are small enough to be read whole. The memory is bounded, and
the oldest packet is forgotten first. A process that remembers nothing asks Redis and gets the same answer.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence

from engine.claiming.acks import Acks
from engine.errors import UnavailableError
from engine.ids import lane_of
from engine.lanes.reader import READ_WHOLE_COUNT_MAX, LaneStatus, LiveCounts
from engine.lanes.store import Store
from engine.observability import metrics
from engine.records import Ack, ClaimResult, Outcome, PacketState, strongest

CLAIMS_MAX = 500_000
"""How many claims are remembered in all. A packet counts as its claims plus one."""
LOADING_MAX = 32
_LOST = {
    PacketState.EXHAUSTED: ClaimResult(Outcome.EMPTY, 0),
    PacketState.EXPIRED: ClaimResult(Outcome.EXPIRED, 0),
    PacketState.RETRACTED: ClaimResult(Outcome.RETRACTED, 0),
}
_Ended = tuple[dict[str, ClaimResult], ClaimResult]
"""The shares of a packet by user, and the answer for everyone else."""


class Finished:
    """One process's memory of ended packets."""

    def __init__(self, store: Store, acks: Acks, *, claims_max: int = CLAIMS_MAX) -> None:
        self._store, self._acks = store, acks
        self._claims_max = claims_max
        self._packets: dict[str, _Ended] = {}
        self._size = 0
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._answered: Counter[Outcome] = Counter()
        self._forgotten = 0

    @property
    def loading(self) -> int:
        """How many packets are being read at this moment."""
        return len(self._loading)

    def answer(self, packet_id: str, user_id: str) -> ClaimResult | None:
        """The answer that Redis would give to this claim, or None if this process does not remember the packet."""
        ended = self._packets.get(packet_id)
        if ended is None:
            return None
        result = ended[0].get(user_id, ended[1])
        self._answered[result.outcome] += 1
        return result

    def knows(self, packet_id: str) -> bool:
        """Whether claims on the packet are answered here."""
        return packet_id in self._packets

    def answers(self, packet_id: str, users: Sequence[str]) -> list[ClaimResult] | None:
        """``answer`` for many users of one packet."""
        ended = self._packets.get(packet_id)
        if ended is None:
            return None
        results = [ended[0].get(user_id, ended[1]) for user_id in users]
        self._answered.update([result.outcome for result in results])
        return results

    def learn(self, packet_id: str) -> None:
        """Start reading a packet that has ended, unless it is remembered or too many are being read."""
        if packet_id in self._packets or packet_id in self._loading or len(self._loading) >= LOADING_MAX:
            return
        self._loading[packet_id] = asyncio.create_task(self._load(packet_id))

    def forget(self, lane: int) -> None:
        """Forget a lane whose data in Redis may have changed."""
        self._forgotten += 1  # this also drops what is being read at this moment
        for packet_id in [packet_id for packet_id in self._packets if lane_of(packet_id) == lane]:
            self._size -= len(self._packets.pop(packet_id)[0]) + 1

    async def close(self) -> None:
        """Stop reading packets."""
        for task in list(self._loading.values()):
            task.cancel()
        await asyncio.gather(*self._loading.values(), return_exceptions=True)

    def flush(self) -> None:
        """Report the number of answers to the metrics."""
        for outcome, count in self._answered.items():
            metrics.CLAIMS.labels(outcome.name.lower()).inc(count)
        self._answered.clear()

    async def _load(self, packet_id: str) -> None:
        forgotten, lane = self._forgotten, lane_of(packet_id)
        try:
            counts = await self._store.counts(packet_id)
            # While a packet whose time is over is still open, a share may still be given: the sweeper must close it.
            if counts is None or counts.state not in _LOST or counts.invited or counts.count > READ_WHOLE_COUNT_MAX:
                return
            # Read before the claims: a replica that takes over in between may lack some of them. All of this packet's
            # were emitted by now, so the ledger has them once it has this.
            status = await self._store.lane_status(lane)
            rows = await self._store.claims(packet_id)
            if not await self._is_confirmed(lane, counts, status):
                return
        except UnavailableError:
            return
        finally:
            del self._loading[packet_id]
        if forgotten != self._forgotten:
            return
        if len(rows) == counts.count - counts.remaining_count:  # otherwise its keys have expired in between
            given = {row.user_id: ClaimResult(Outcome.ALREADY, row.amount_fen) for row in rows}
            self._remember(packet_id, (given, _LOST[counts.state]))

    async def _is_confirmed(self, lane: int, counts: LiveCounts, status: LaneStatus | None) -> bool:
        """Whether these claims may be acknowledged. Beyond memory mode: once the ledger, the strongest, has them."""
        if strongest(self._acks.setting, counts.ack) is Ack.MEMORY:
            return True
        return status is not None and await self._acks.in_ledger(lane, status.lane_token, status.position)

    def _remember(self, packet_id: str, ended: _Ended) -> None:
        self._packets[packet_id] = ended
        self._size += len(ended[0]) + 1
        while self._size > self._claims_max:
            oldest = next(iter(self._packets))
            self._size -= len(self._packets.pop(oldest)[0]) + 1
