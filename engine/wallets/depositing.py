"""One process's deposits, many per transaction.

Every deposit locks the bank's row. So deposits that arrive while others are in progress go together in the next
transaction. Its commit does not wait for the disk. A second commit, before any answer, does.
"""

import asyncio
from collections import deque
from typing import Any, NamedTuple

import asyncpg
import orjson
import structlog

from engine.errors import HongbaoError, LimitExceededError
from engine.ledger import idempotency
from engine.ledger.database import Connection, ledger_errors
from engine.ledger.failures import DATABASE_ERRORS, failure_of
from engine.observability.repeats import repeats
from engine.queries import load
from engine.records import FEN_MAX

LOG = structlog.get_logger()
SQL = load("wallet")
TOGETHER_MAX = 100
"""How many deposits one transaction makes. It blocks other deposits for some 10 ms."""
ENOUGH = 32
LINGER_S = 0.002
"""A transaction costs as much as some ten deposits. So while fewer than ENOUGH wait, the next one starts later.

This does not apply if the last deposit was alone. Without the pause, four processes with many small transactions are
slower than one process.
"""
_THE_ONES_FAULT = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)


class _Waiting(NamedTuple):
    """One deposit in progress. The bound on simultaneous requests also bounds these."""

    request: idempotency.Request
    amount_fen: int
    row: "asyncio.Future[asyncpg.Record]"


class Depositing:
    """One process's deposits."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._waiting: deque[_Waiting] = deque()
        self._names: set[str] = set()  # of deposits in progress: a name may not be twice in one transaction
        self._work: asyncio.Task[None] | None = None

    async def put(self, request: idempotency.Request, amount_fen: int) -> tuple[dict[str, Any], bool]:
        """Put money into the wallet of the request's principal. Returns the answer, and whether it is a repeat.

        Raises as ``idempotency.begin`` does, UnavailableError, and LimitExceededError if the sum of all accounts would
        exceed ``FEN_MAX``.
        """
        name = idempotency.lock_name(request)
        if name in self._names:
            raise idempotency.in_flight()
        waiting = _Waiting(request, amount_fen, asyncio.get_running_loop().create_future())
        self._names.add(name)
        self._waiting.append(waiting)
        if self._work is None:
            self._work = asyncio.create_task(self._deposit())
        with ledger_errors():
            row = await waiting.row
        return _answer(row, request, amount_fen)

    async def _deposit(self) -> None:
        """Make deposits until no more are waiting."""
        try:
            while self._waiting:
                together = [self._waiting.popleft() for _ in range(min(len(self._waiting), TOGETHER_MAX))]
                await self._deposit_together(together)
                if len(together) > 1 and len(self._waiting) < ENOUGH:
                    await asyncio.sleep(LINGER_S)
        finally:
            self._work = None

    async def _deposit_together(self, together: list[_Waiting]) -> None:
        requests = [waiting.request for waiting in together]
        values = (
            [idempotency.lock_name(request) for request in requests],
            [request.principal for request in requests],
            [request.key for request in requests],
            [request.request_hash for request in requests],
            [waiting.amount_fen for waiting in together],
        )
        try:
            with ledger_errors(is_undone=True):
                connection = await self._pool.acquire()
            try:
                rows = await _call(connection, *values)
                await connection.execute(SQL["flush"])
            finally:
                await self._pool.release(connection)
        except _THE_ONES_FAULT as error:
            if len(together) == 1:
                _fail(together, error)
            for waiting in together if len(together) > 1 else ():  # only one is at fault: try each alone
                await self._deposit_together([waiting])
        except (*DATABASE_ERRORS, HongbaoError) as error:
            _fail(together, error)
        except BaseException:
            for waiting in together:
                waiting.row.cancel()
            raise
        else:
            for waiting, row in zip(together, rows, strict=True):
                if not waiting.row.done():  # the caller may be gone
                    waiting.row.set_result(row)
        finally:
            self._names.difference_update(values[0])


async def deposit_on(
    connection: Connection, request: idempotency.Request, amount_fen: int
) -> tuple[dict[str, Any], bool]:
    """One deposit in the caller's transaction, once per key. Returns the answer, and whether it is a repeat.

    The commit does not wait for the disk unless the caller sets ``synchronous_commit``. Raises as ``Depositing.put``.
    """
    values = (
        [idempotency.lock_name(request)],
        [request.principal],
        [request.key],
        [request.request_hash],
        [amount_fen],
    )
    (row,) = await _call(connection, *values)
    return _answer(row, request, amount_fen)


async def _call(connection: Connection, *values: list[Any]) -> list[asyncpg.Record]:
    """The result of each deposit. If the server answers with an error, all of them are undone."""
    try:
        rows: list[asyncpg.Record] = await connection.fetch(SQL["deposit"], *values, FEN_MAX)
    except _THE_ONES_FAULT:
        raise
    except asyncpg.PostgresError as error:
        raise failure_of(error, is_undone=True) from error
    return rows


def _fail(together: list[_Waiting], error: Exception) -> None:
    for waiting in together:
        if not waiting.row.done():
            waiting.row.set_exception(error)


def _answer(row: asyncpg.Record, request: idempotency.Request, amount_fen: int) -> tuple[dict[str, Any], bool]:
    match row["outcome"]:
        case "in_flight":
            raise idempotency.in_flight()
        case "known":
            return idempotency.kept_answer(row, request), True
        case "full":
            left_fen: int = row["left_fen"]
            if times := repeats.times("ledger_full"):
                LOG.error("ledger_full", left_fen=left_fen, times=times)
            raise LimitExceededError("total_fen_max", FEN_MAX, left_fen, field="amount_fen")
    answer: dict[str, Any] = orjson.loads(row["answer"])
    return answer, False
