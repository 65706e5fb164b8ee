"""What a process remembers of packets that have ended: they never change again, so nobody need ask Redis about them.

Only packets that anyone may claim and that are small enough to be read whole; what is remembered is bounded, and the
oldest is forgotten first. A process that remembers nothing asks Redis, which says the same.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence

from engine.claiming.acks import Acks
from engine.errors import UnavailableError
from engine.ids import lane_of
from engine.lanes.reader import READ_WHOLE_COUNT_MAX, LiveCounts
from engine.lanes.store import Store
from engine.observability import metrics
from engine.records import Ack, ClaimResult, Outcome, PacketState, strongest

CLAIMS_MAX = 500_000
"""How many claims are remembered in all; a packet counts as one more than it has claims."""
LOADING_MAX = 32
_LOST = {
    PacketState.EXHAUSTED: ClaimResult(Outcome.EMPTY, 0),
    PacketState.EXPIRED: ClaimResult(Outcome.EXPIRED, 0),
    PacketState.RETRACTED: ClaimResult(Outcome.RETRACTED, 0),
}
_Ended = tuple[dict[str, ClaimResult], ClaimResult]
"""Who has what of a packet, and what everyone else is told."""


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
        """What Redis would say to this claim, or None when this process does not know the packet, whatever it is."""
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
        """Begin to remember a packet that somebody was told has ended, unless it is known or too much is under way."""
        if packet_id in self._packets or packet_id in self._loading or len(self._loading) >= LOADING_MAX:
            return
        self._loading[packet_id] = asyncio.create_task(self._load(packet_id))

    def forget(self, lane: int) -> None:
        """Remember nothing of a lane whose data in Redis may be other than it was."""
        self._forgotten += 1  # and nothing that is being read at this moment
        for packet_id in [packet_id for packet_id in self._packets if lane_of(packet_id) == lane]:
            self._size -= len(self._packets.pop(packet_id)[0]) + 1

    async def close(self) -> None:
        """Let go of what is being read."""
        for task in list(self._loading.values()):
            task.cancel()
        await asyncio.gather(*self._loading.values(), return_exceptions=True)

    def flush(self) -> None:
        """Hand the number of answers given to the metrics."""
        for outcome, count in self._answered.items():
            metrics.CLAIMS.labels(outcome.name.lower()).inc(count)
        self._answered.clear()

    async def _load(self, packet_id: str) -> None:
        forgotten = self._forgotten
        try:
            counts = await self._store.counts(packet_id)
            # Of one that is over but not closed, the sweeper has yet to make sure that nothing more is given.
            if counts is None or counts.state not in _LOST or counts.invited or counts.count > READ_WHOLE_COUNT_MAX:
                return
            rows = await self._store.claims(packet_id)
            if not await self._is_confirmed(packet_id, counts):
                return
        except UnavailableError:
            return
        finally:
            del self._loading[packet_id]
        if forgotten != self._forgotten:
            return
        if len(rows) == counts.count - counts.remaining_count:  # else its keys ran out in between
            given = {row.user_id: ClaimResult(Outcome.ALREADY, row.amount_fen) for row in rows}
            self._remember(packet_id, (given, _LOST[counts.state]))

    async def _is_confirmed(self, packet_id: str, counts: LiveCounts) -> bool:
        """Whether what was read may be told: beyond memory, once the ledger has it, which is the strongest there is."""
        if strongest(self._acks.setting, counts.ack) is Ack.MEMORY:
            return True
        lane = lane_of(packet_id)
        status = await self._store.lane_status(lane)
        return status is not None and await self._acks.in_ledger(lane, status.lane_token, status.position)

    def _remember(self, packet_id: str, ended: _Ended) -> None:
        self._packets[packet_id] = ended
        self._size += len(ended[0]) + 1
        while self._size > self._claims_max:
            oldest = next(iter(self._packets))
            self._size -= len(self._packets.pop(oldest)[0]) + 1
