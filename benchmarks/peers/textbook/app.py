"""A claim endpoint as in tutorials: Starlette, redis.asyncio, one EVALSHA per claim.

There is one difference, because it would answer errors otherwise: the default pool raises if its 100 connections are in
use. This pool waits for a free one (BlockingConnectionPool). hiredis is installed, as redis-py's documentation advises.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import BlockingConnectionPool, Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

SCRIPT = (Path(__file__).parent.parent / "grab.lua").read_text(encoding="utf-8")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """One client for the whole process, with the script registered."""
    pool = BlockingConnectionPool.from_url(os.environ["REDIS_URL"], max_connections=100, decode_responses=True)
    client = Redis.from_pool(pool)
    app.state.grab = client.register_script(SCRIPT)
    yield
    await client.aclose()


async def claim(request: Request) -> JSONResponse:
    """Claim a share for the user in the header."""
    packet_id, user_id = request.path_params["packet_id"], request.headers.get("x-user-id")
    if not user_id:
        return JSONResponse({"error": "X-User-Id is missing"}, status_code=400)
    tag = f"{{hongbao:{packet_id[2:5]}}}"
    keys = [f"{tag}:packet:{packet_id}", f"{tag}:shares:{packet_id}", f"{tag}:claims:{packet_id}", f"{tag}:events"]
    outcome, amount_fen = await request.app.state.grab(keys=keys, args=[packet_id, user_id])
    if outcome == "missing":
        return JSONResponse({"error": "no such packet"}, status_code=404)
    return JSONResponse({"outcome": outcome, "amount_fen": int(amount_fen), "packet_id": packet_id, "user_id": user_id})


app = Starlette(routes=[Route("/v1/packets/{packet_id}/claims", claim, methods=["POST"])], lifespan=lifespan)
