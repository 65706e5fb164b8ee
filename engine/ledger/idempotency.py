"""Idempotency-Key: the work of a request is done once, and a repeated request gets the first answer.

The key is locked while the transaction does the work, and the same transaction keeps the answer. So the work is never
done without its answer. Only successful answers are kept.
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
"""How many keys one statement deletes: some 10 ms of work."""
_DAY_MS = 86_400_000
Checked = TypeVar("Checked")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The key, its owner and its operation. ``request_hash`` distinguishes two bodies.

    ``principal``: the caller or, if several callers may make the same request, the user it is about.
    """

    principal: str
    operation: str
    key: str
    request_hash: bytes


class Answered(NamedTuple, Generic[Checked]):
    """``replayed``: the request had been answered before. ``checked``: what ``check`` returned, if it was called."""

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
    """Do ``work`` in a transaction, once per key. A repeat gets the first answer.

    The key comes before every rule: what was done stays done, even if limits, clocks or servers have changed. So only
    a first request is checked. ``check`` runs outside the transaction (it asks other servers and counts tries), and
    ``work`` gets its result. Raises as ``begin``, ``check`` and ``work`` do, and UnavailableError (UndecidedError if
    the work may have been done).
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
    """Lock the key inside a transaction. Returns its kept answer, or None if the work is still to be done.

    Raises IdempotencyInFlightError if a request with this key is in progress, IdempotencyKeyReusedError if the key was
    used for another body.
    """
    if not await connection.fetchval(SQL["try_lock"], lock_name(request)):
        raise in_flight()
    return await _stored(connection, request)


async def forbid(connection: Connection, request: Request) -> bool:
    """Have a request never be done, once the caller's transaction is committed. False: it was done already.

    Whoever comes with its key afterwards gets IdempotencyKeyReusedError. Raises IdempotencyInFlightError if the request
    is in progress.
    """
    try:
        if await begin(connection, request) is not None:
            return False
    except IdempotencyKeyReusedError:
        return True
    never = Request(
        principal=request.principal, operation=request.operation, key=request.key, request_hash=b"never to be done"
    )
    await keep(connection, never, {})
    return True


async def answered_meanwhile(pool: asyncpg.Pool, request: Request) -> dict[str, Any] | None:
    """The kept answer to a request that a rule now refuses, if any. Raises as ``begin`` does, and UnavailableError.

    A first request may have finished meanwhile, or may still be in progress: then the repeat is not refused.
    """
    with ledger_errors(is_undone=True):
        async with pool.acquire() as connection, connection.transaction():
            return await begin(connection, request)


def lock_name(request: Request) -> str:
    """The name of the lock on the request's key."""
    return "\x1f".join((request.principal, request.operation, request.key))


def in_flight() -> IdempotencyInFlightError:
    """The error for a key whose request is in progress."""
    return IdempotencyInFlightError("A request with this Idempotency-Key is in progress: repeat it in a moment.")


async def _stored(source: asyncpg.Pool | Connection, request: Request) -> dict[str, Any] | None:
    stored = await source.fetchrow(SQL["stored"], request.principal, request.operation, request.key)
    return None if stored is None else kept_answer(stored, request)


def kept_answer(stored: asyncpg.Record, request: Request) -> dict[str, Any]:
    """The answer in a row of ``idempotency``. Raises IdempotencyKeyReusedError if it belongs to another body."""
    if stored["request_hash"] != request.request_hash:
        raise IdempotencyKeyReusedError("This Idempotency-Key was used for another request: send a new one.")
    answer: dict[str, Any] = orjson.loads(stored["answer"])
    return answer


async def forget(pool: asyncpg.Pool, *, after_days: int) -> bool:
    """Forget some of the keys that are older than this many days. Returns whether there may be more.

    If a request is repeated with a forgotten key, its work is done again. Raises asyncpg's errors.
    """
    forgotten = await pool.fetchval(SQL["forget"], after_days * _DAY_MS, FORGOTTEN_AT_ONCE)
    return bool(forgotten == FORGOTTEN_AT_ONCE)


async def keep(connection: Connection, request: Request, answer: dict[str, Any]) -> None:
    """Keep the answer, in the transaction that did the work."""
    body = orjson.dumps(answer).decode()
    await connection.execute(SQL["keep"], request.principal, request.operation, request.key, request.request_hash, body)
