"""Idempotency-Key: a request that is repeated is answered as it was, and what it asks is done once.

The key is locked for the length of the transaction that does the work, and the answer is kept in that transaction; so
there is no moment in which the work is done and the answer is not there.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from engine.errors import IdempotencyInFlightError, IdempotencyKeyReusedError
from engine.ledger.database import Connection
from engine.queries import load

SQL = load("idempotency")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who asks what under which key. ``request_hash`` tells two bodies apart."""

    principal: str
    operation: str
    key: str
    request_hash: bytes


async def begin(connection: Connection, request: Request) -> dict[str, Any] | None:
    """Take the key, inside a transaction; returns the answer kept for it, or None when the work is still to be done.

    Raises IdempotencyInFlightError when the same key is being worked on, IdempotencyKeyReusedError when it was used
    for another body.
    """
    name = "\x1f".join((request.principal, request.operation, request.key))
    if not await connection.fetchval(SQL["try_lock"], name):
        raise IdempotencyInFlightError("A request with this Idempotency-Key is in progress: repeat it in a moment.")
    stored = await connection.fetchrow(SQL["stored"], request.principal, request.operation, request.key)
    if stored is None:
        return None
    if stored["request_hash"] != request.request_hash:
        raise IdempotencyKeyReusedError("This Idempotency-Key was used for another request: send a new one.")
    answer: dict[str, Any] = orjson.loads(stored["answer"])
    return answer


async def keep(connection: Connection, request: Request, answer: dict[str, Any]) -> None:
    """Keep the answer, in the transaction that did the work."""
    body = orjson.dumps(answer).decode()
    await connection.execute(SQL["keep"], request.principal, request.operation, request.key, request.request_hash, body)
