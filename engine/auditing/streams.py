"""Reads the ledger's rows in the order of the lanes' changes, in bounded memory, to audit the chains."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import numpy as np
from numpy.typing import NDArray

from engine.ledger.claim_rows import HEADER_BYTES, ROW
from engine.ledger.database import Connection
from engine.queries import load

SQL = load("chain")
_CHUNK_BYTES = 1_000_000
_CHUNKS_MAX = 8
_COPY_S_MAX = 3_600.0
_POSITION_BITS = 52


class ClaimRows:
    """The claims of some lanes, sorted, as Postgres copies them out on a separate connection. Taken batch by batch.

    ``walked``: the values for the statement. Use it with ``async with``, which starts the copy.
    """

    def __init__(self, connection: Connection, *walked: list[int] | int) -> None:
        self._connection, self._walked = connection, walked
        self._chunks: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue(_CHUNKS_MAX)
        self._copied = bytearray()
        self._header_bytes = HEADER_BYTES  # the bytes still to drop
        self._waiting: NDArray[np.void] = np.empty(0, dtype=ROW)
        self._keys: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._ended = False

    async def __aenter__(self) -> "ClaimRows":
        """Start copying."""
        self._task = asyncio.create_task(self._copy())
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Stop copying, finished or not."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def take(self, lane: int, position: int) -> NDArray[np.void]:
        """The next rows (``claim_rows.ROW``), up to a position of a lane. Includes the lanes before it."""
        parts = [part async for part in self.parts(lane, position)]
        # The result has the same row type. Otherwise numpy would change the numbers to the machine's byte order.
        return np.concatenate(parts, out=np.empty(sum(map(len, parts)), dtype=ROW))

    async def parts(self, lane: int, position: int) -> AsyncIterator[NDArray[np.void]]:
        """The same in parts: at least one, which may be empty."""
        key = (lane << _POSITION_BITS) + position
        while True:
            cut = int(np.searchsorted(self._keys, key, side="right"))
            part = self._waiting[:cut]
            self._waiting, self._keys = self._waiting[cut:], self._keys[cut:]
            yield part
            if len(self._waiting) or not await self._fetch():
                return

    async def _copy(self) -> None:
        try:
            # One statement reads it all, however long the ledger is.
            await self._connection.copy_from_query(
                SQL["claims"], *self._walked, output=self._put, format="binary", timeout=_COPY_S_MAX
            )
            await self._hand_over()
            await self._chunks.put(None)
        except Exception as error:  # ``take`` raises it
            await self._chunks.put(error)

    async def _put(self, data: bytes) -> None:
        self._copied += data
        if len(self._copied) >= _CHUNK_BYTES:
            await self._hand_over()

    async def _hand_over(self) -> None:
        """Pass on complete rows. At the very end, the trailer is left."""
        del self._copied[: self._header_bytes]
        self._header_bytes = 0
        whole = len(self._copied) // ROW.itemsize * ROW.itemsize
        chunk = bytes(self._copied[:whole])
        del self._copied[:whole]
        await self._chunks.put(chunk)

    async def _fetch(self) -> bool:
        """Wait for the next rows. Returns False if there are no more."""
        if self._ended:
            return False
        chunk = await self._chunks.get()
        if isinstance(chunk, BaseException):
            raise chunk
        if chunk is None:
            self._ended = True
            return False
        self._waiting = np.frombuffer(chunk, dtype=ROW)
        self._keys = (lanes_of(self._waiting) << _POSITION_BITS) + self._waiting["position"].astype(np.int64)
        return True


def lanes_of(claims: NDArray[np.void]) -> NDArray[np.int64]:
    """Each claim's lane, from its packet's number."""
    lanes: NDArray[np.int64] = claims["from_account"].astype(np.int64) // 100_000_000_000_000 % 1_000
    return lanes


class Rows:
    """Rows that are sorted by lane and position. They are taken batch by batch."""

    def __init__(self, rows: AsyncIterator[asyncpg.Record]) -> None:
        self._rows = rows
        self._next: asyncpg.Record | None = None
        self._begun = False

    async def take(self, lane: int, position: int) -> list[asyncpg.Record]:
        """The next rows up to a position of a lane. Includes the lanes before it."""
        return [row async for row in self.up_to(lane, position)]

    async def up_to(self, lane: int, position: int) -> AsyncIterator[asyncpg.Record]:
        """The same, row by row."""
        if not self._begun:
            self._begun, self._next = True, await anext(self._rows, None)
        while self._next is not None and (self._next["lane"], self._next["position"]) <= (lane, position):
            row, self._next = self._next, await anext(self._rows, None)
            yield row
