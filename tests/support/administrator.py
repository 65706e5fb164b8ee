"""A connection to Postgres that makes and drops the tests' databases, on a loop of its own.

Every test has its own loop, and a connection is its loop's. One connection for all tests saves two per test, each
of which costs Postgres a process.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any, TypeVar

import asyncpg

Result = TypeVar("Result")


class Administrator:
    """Executes statements for tests on any loop, one after another."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: asyncpg.Connection) -> None:
        self._loop, self._connection, self._turn = loop, connection, asyncio.Lock()

    async def execute(self, statement: str) -> None:
        """Execute it. Raises asyncpg's errors."""
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._execute(statement), self._loop))

    async def _execute(self, statement: str) -> None:
        async with self._turn:
            await self._connection.execute(statement)


@contextmanager
def administrator_of(url: str) -> Iterator[Administrator]:
    """One of a server, until the end of the block."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="administrator", daemon=True)
    thread.start()

    def run(work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    connection = run(asyncpg.connect(url))
    try:
        yield Administrator(loop, connection)
    finally:
        run(connection.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
