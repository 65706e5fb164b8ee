"""Idempotency-Key: a request that is repeated is answered as it was, and what it asks is done once.

The key is locked for the length of the transaction that does the work, and the answer is kept in that transaction; so
there is no moment in which the work is done and the answer is not there. Only what succeeded is kept.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import asyncpg
import orjson

from engine.errors import HongbaoError, IdempotencyInFlightError, IdempotencyKeyReusedError, UnavailableError
from engine.ledger.database import Connection, ledger_change, ledger_errors
from engine.queries import load

SQL = load("idempotency")
FORGOTTEN_AT_ONCE = 1_000
"""Keys that one statement forgets: some 10 ms of work."""
_DAY_MS = 86_400_000
Checked = TypeVar("Checked")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Whose key it is, for what. ``request_hash`` tells two bodies apart.

    ``principal``: who asks or, where any of several may ask for the same thing, whom it is about.
    """

    principal: str
    operation: str
    key: str
    request_hash: bytes


class Answered(NamedTuple, Generic[Checked]):
    """``replayed``: the request had been answered before. ``checked``: what ``check`` returned, if it was asked."""

    answer: dict[str, Any]
    replayed: bool
    checked: Checked | None


async def once(
    pool: asyncpg.Pool,
    request: Request,
    *,
    check: Callable[[], Awaitable[Checked]],
    work: Callable[[Connection, Checked], Awaitable[dict[str, Any]]],
) -> Answered[Checked]:
    """Do ``work`` in a transaction, once for each key; a repeat is answered as it was.

    The key comes before every rule: what was done stays done, whatever limits, clocks and servers say by now. So only a
    first request is ``check``ed, outside the transaction (other servers are asked there, and tries are counted), and
    then worked on with what ``check`` returned. Raises as ``begin`` does, UnavailableError (UndecidedError if it may
    have been done all the same), and what those two raise.
    """
    with ledger_errors(is_undone=True):
        answer = await _stored(pool, request)
    if answer is not None:
        return Answered(answer, True, None)
    try:
        checked = await check()
    except HongbaoError as error:
        answer = await answered_meanwhile(pool, request)
        if answer is None:
            if isinstance(error, UnavailableError):
                error.is_undone = True  # the check changes nothing
            raise
        return Answered(answer, True, None)
    async with ledger_change(pool) as connection:
        answer = await begin(connection, request)
        if answer is not None:
            return Answered(answer, True, checked)
        answer = await work(connection, checked)
        await keep(connection, request, answer)
    return Answered(answer, False, checked)


async def begin(connection: Connection, request: Request) -> dict[str, Any] | None:
    """Take the key, inside a transaction; returns the answer kept for it, or None when the work is still to be done.

    Raises IdempotencyInFlightError when the same key is being worked on, IdempotencyKeyReusedError when it was used
    for another body.
    """
    if not await connection.fetchval(SQL["try_lock"], lock_name(request)):
        raise in_flight()
    return await _stored(connection, request)


async def answered_meanwhile(pool: asyncpg.Pool, request: Request) -> dict[str, Any] | None:
    """The answer to a request that a rule refuses, if it succeeded before. Raises as ``begin`` does, UnavailableError.

    A first request that was under way all the time may be done by now, or still be: then it was not refused.
    """
    with ledger_errors(is_undone=True):
        async with pool.acquire() as connection, connection.transaction():
            return await begin(connection, request)


def lock_name(request: Request) -> str:
    """What is locked for as long as the request's key is worked on."""
    return "\x1f".join((request.principal, request.operation, request.key))


def in_flight() -> IdempotencyInFlightError:
    """What is raised when another one is at work under the key."""
    return IdempotencyInFlightError("A request with this Idempotency-Key is in progress: repeat it in a moment.")


async def _stored(source: asyncpg.Pool | Connection, request: Request) -> dict[str, Any] | None:
    stored = await source.fetchrow(SQL["stored"], request.principal, request.operation, request.key)
    return None if stored is None else kept_answer(stored, request)


def kept_answer(stored: asyncpg.Record, request: Request) -> dict[str, Any]:
    """The answer in a row of ``idempotency``. Raises IdempotencyKeyReusedError if it is another body's."""
    if stored["request_hash"] != request.request_hash:
        raise IdempotencyKeyReusedError("This Idempotency-Key was used for another request: send a new one.")
    answer: dict[str, Any] = orjson.loads(stored["answer"])
    return answer


async def forget(pool: asyncpg.Pool, *, after_days: int) -> bool:
    """Forget some of the keys that are older than so many days; whether there may be more of them.

    What was done under a forgotten key is done again if it is asked again. Raises asyncpg's errors.
    """
    forgotten = await pool.fetchval(SQL["forget"], after_days * _DAY_MS, FORGOTTEN_AT_ONCE)
    return bool(forgotten == FORGOTTEN_AT_ONCE)


async def keep(connection: Connection, request: Request, answer: dict[str, Any]) -> None:
    """Keep the answer, in the transaction that did the work."""
    body = orjson.dumps(answer).decode()
    await connection.execute(SQL["keep"], request.principal, request.operation, request.key, request.request_hash, body)
