"""What a process remembers of buckets that have ended, so that who has lost there costs no call to Redis.

A bucket counts as ended only once the ledger has its end and every claim. What a failover loses was not booked: a
bucket that looked empty before it may give again afterwards, and whoever had gone on to another one could win twice.
"""

import asyncio
import hashlib
import time
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence

import asyncpg
import numpy as np
from numpy.typing import NDArray

from engine.errors import UnavailableError
from engine.ledger.database import ledger_errors
from engine.queries import load
from engine.records import PacketState

SQL, CLAIMS = load("campaigns"), load("claims")
WINNERS_MAX = 10_000_000
"""How many winners are remembered in all, in 8 bytes each. The bucket that was learnt first is forgotten first."""
_BUCKET_SIZE = 32
_PAGE = 20_000
_PUT_OFF_S = 30.0
"""How long a bucket is not read again whose winners the ledger does not all have: each tap would begin it anew."""
_POLLS_MAX, _POLL_S = 25, 0.02
_LOADING_MAX, _BOOKED_MAX = 4, 100_000
_ENDS = frozenset((PacketState.EXHAUSTED, PacketState.EXPIRED, PacketState.RETRACTED))


class Ended:
    """One process's memory of ended buckets."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._booked: set[str] = set()
        self._winners: OrderedDict[str, array[int]] = OrderedDict()
        self._put_off: dict[str, float] = {}
        self._size = 0
        self._asking: dict[str, asyncio.Task[bool]] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}

    def not_lost(self, packet_ids: Sequence[str], user_id: str) -> list[str]:
        """Those of these buckets of which it is not certain that they have ended and the user has no share of them."""
        hashed, left = _hash(user_id), []
        for packet_id in packet_ids:
            winners = self._winners.get(packet_id)
            if winners is not None:
                place = bisect_left(winners, hashed)
                if place == len(winners) or winners[place] != hashed:
                    continue
            left.append(packet_id)
        return left

    async def is_booked(self, packet_id: str) -> bool:
        """Whether the ledger has the end of a bucket of which Redis says that it has ended. Waits for it a moment.

        Raises UnavailableError if Postgres does not answer.
        """
        if packet_id in self._booked:
            self._learn(packet_id)
            return True
        if (asking := self._asking.get(packet_id)) is None:
            asking = self._asking[packet_id] = asyncio.create_task(self._ask(packet_id))
        return await asyncio.shield(asking)

    async def shares_of(self, packet_ids: Sequence[str], user_id: str) -> list[tuple[str, int]]:
        """A user's shares of these buckets, by the ledger: bucket and amount. Raises UnavailableError."""
        with ledger_errors(is_undone=True):
            rows = await self._pool.fetch(CLAIMS["claims_of"], list(map(int, packet_ids)), [user_id] * len(packet_ids))
        return [
            (packet_id, row["amount_fen"])
            for packet_id, row in zip(packet_ids, rows, strict=True)
            if row["amount_fen"] is not None
        ]

    async def not_booked(self, packet_ids: Sequence[str]) -> list[str]:
        """Those of these buckets whose end, with every claim, the ledger does not have yet. Raises UnavailableError."""
        unknown = [packet_id for packet_id in packet_ids if packet_id not in self._booked]
        if not unknown:
            return []
        with ledger_errors(is_undone=True):
            rows = await self._pool.fetch(SQL["ends"], list(map(int, unknown)))
        booked = {str(row["packet_id"]) for row in rows if PacketState(row["state"]) in _ENDS and not row["waiting"]}
        return [packet_id for packet_id in unknown if packet_id not in booked]

    async def close(self) -> None:
        """Stop asking and loading."""
        tasks = [*self._asking.values(), *self._loading.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, packet_id: str) -> bool:
        try:
            for _ in range(_POLLS_MAX):
                if await self._has_ended(packet_id):
                    break
                await asyncio.sleep(_POLL_S)
            else:
                return False
        finally:
            del self._asking[packet_id]
        if len(self._booked) >= _BOOKED_MAX:
            self._booked.clear()
        self._booked.add(packet_id)
        self._learn(packet_id)
        return True

    def _learn(self, packet_id: str) -> None:
        """Start reading the winners of a bucket, unless they are known or too many are being read."""
        if packet_id in self._winners or packet_id in self._loading or len(self._loading) >= _LOADING_MAX:
            return
        if time.monotonic() < self._put_off.get(packet_id, 0):
            return
        self._loading[packet_id] = asyncio.create_task(self._load(packet_id))

    async def _has_ended(self, packet_id: str) -> bool:
        with ledger_errors(is_undone=True):
            rows = await self._pool.fetch(SQL["ends"], [int(packet_id)])
        # Whoever has a share that waits in quarantine has it in Redis alone, and may lose it there.
        return bool(rows) and PacketState(rows[0]["state"]) in _ENDS and not rows[0]["waiting"]

    async def _load(self, packet_id: str) -> None:
        try:
            winners = await self._read(packet_id)
        except UnavailableError:
            return
        finally:
            del self._loading[packet_id]
        if winners is None:
            if len(self._put_off) >= _BOOKED_MAX:
                self._put_off.clear()
            self._put_off[packet_id] = time.monotonic() + _PUT_OFF_S
            return
        self._winners[packet_id] = winners
        self._size += _size(winners)
        while self._size > WINNERS_MAX and len(self._winners) > 1:
            self._size -= _size(self._winners.popitem(last=False)[1])

    async def _read(self, packet_id: str) -> "array[int] | None":
        """A bucket's winners as hashes, in order. None if the ledger does not have all of them."""
        pages, last_slot = [np.empty(0, dtype=np.uint64)], -1
        while True:
            with ledger_errors():
                rows = await self._pool.fetch(SQL["winners"], int(packet_id), last_slot, _PAGE)
            # In a thread, as the sorting: a million of them would hold up everybody else's taps for a second.
            pages.append(await asyncio.to_thread(_hashes, [row["owner"] for row in rows]))
            if len(rows) < _PAGE:
                break
            last_slot = rows[-1]["slot"]
        with ledger_errors():
            (end,) = await self._pool.fetch(SQL["ends"], [int(packet_id)])
        winners = await asyncio.to_thread(_in_order, pages)
        # Otherwise a claim waits in quarantine, and Redis has given it.
        return winners if len(winners) == end["count"] - end["remaining_count"] else None


def _in_order(pages: Sequence[NDArray[np.uint64]]) -> "array[int]":
    """All hashes in an array of Python's own: numpy takes four times as long to look one number up."""
    winners = array("Q")
    winners.frombytes(np.sort(np.concatenate(pages)).tobytes())
    return winners


def _size(winners: "array[int]") -> int:
    """What a bucket counts for: it needs memory though nobody has won in it."""
    return len(winners) + _BUCKET_SIZE


def _hashes(user_ids: Sequence[str]) -> NDArray[np.uint64]:
    return np.array([_hash(user_id) for user_id in user_ids], dtype=np.uint64)


def _hash(user_id: str) -> int:
    """Two users with one hash cost a question more, and nothing else."""
    return int.from_bytes(hashlib.blake2b(user_id.encode(), digest_size=8).digest(), "big")
