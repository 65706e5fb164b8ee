"""A claim endpoint directly on Postgres: FOR UPDATE SKIP LOCKED, with claim and wallet in one transaction.

It uses Starlette and asyncpg. A claim writes the user into the share's row. (packet, user) is unique: if two claims by
one user race, one fails there and is answered as a repeat.
"""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

CONNECTIONS = 20
HELD = "SELECT amount_fen FROM shares WHERE packet_id = $1 AND user_id = $2"
PACKET = "SELECT expires_at_ms FROM packets WHERE packet_id = $1"
TAKE = """
UPDATE shares SET user_id = $2, claimed_at_ms = $3
WHERE packet_id = $1 AND slot = (
    SELECT slot FROM shares WHERE packet_id = $1 AND user_id IS NULL ORDER BY slot LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING amount_fen
"""
PAY = """
INSERT INTO wallets (user_id, balance_fen) VALUES ($1, $2)
ON CONFLICT (user_id) DO UPDATE SET balance_fen = wallets.balance_fen + excluded.balance_fen
"""


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """One pool for the whole process."""
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        app.state.pool = pool
        yield


async def claim(request: Request) -> JSONResponse:
    """Claim a share for the user in the header."""
    packet_id, user_id = request.path_params["packet_id"], request.headers.get("x-user-id")
    if not user_id:
        return JSONResponse({"error": "X-User-Id is missing"}, status_code=400)
    outcome, amount_fen = await grab(request.app.state.pool, int(packet_id), user_id)
    if outcome == "missing":
        return JSONResponse({"error": "no such packet"}, status_code=404)
    return JSONResponse({"outcome": outcome, "amount_fen": amount_fen, "packet_id": packet_id, "user_id": user_id})


async def grab(pool: "asyncpg.Pool[Any]", packet_id: int, user_id: str) -> tuple[str, int]:
    """Take one share in one transaction. Returns the outcome and the amount."""
    async with pool.acquire() as connection:
        if (held := await connection.fetchval(HELD, packet_id, user_id)) is not None:
            return "already_claimed", held
        expires_at_ms = await connection.fetchval(PACKET, packet_id)
        now_ms = time.time_ns() // 1_000_000
        if expires_at_ms is None:
            return "missing", 0
        if now_ms >= expires_at_ms:
            return "expired", 0
        try:
            async with connection.transaction():
                amount_fen = await connection.fetchval(TAKE, packet_id, user_id, now_ms)
                if amount_fen is None:
                    return "sold_out", 0
                await connection.execute(PAY, user_id, amount_fen)
        except asyncpg.UniqueViolationError:
            return "already_claimed", await connection.fetchval(HELD, packet_id, user_id)
        return "claimed", amount_fen


app = Starlette(routes=[Route("/v1/packets/{packet_id}/claims", claim, methods=["POST"])], lifespan=lifespan)
