"""The application: the route table on Starlette, with one engine for its life."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from itertools import groupby
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.dispatch import Front, Operation, PathApp
from api.documents.openapi import document
from api.limits import Limits
from api.pages import serving as pages
from api.problems import answer_to
from api.routes import ROUTES
from api.wechatpay import routes as wechatpay
from engine.access import keyring
from engine.access.admissions import Admissions
from engine.access.tokens import Verifier
from engine.engine import Engine
from engine.settings import Settings

DRAIN_S = 10.0
"""How long a stopping process waits for requests in progress."""
FLUSH_INTERVAL_S = 0.5
UNMATCHED = "unmatched"


def create_app(settings: Settings) -> Starlette:
    """The whole HTTP front. Its lifespan opens the engine, and closes it once every request has been answered.

    Raises OperatorError if the token secrets cannot be used. Its start raises it if a server is missing.
    """
    keys, leeway_s = keyring.load(settings), settings.token_leeway_s
    verifier = Verifier(keys, leeway_s=leeway_s, ttl_s_max=settings.token_ttl_s_max)
    front = Front(settings, verifier, Admissions(keys, leeway_s=leeway_s), document(ROUTES), Limits(settings))

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with Engine.open(settings) as front.engine:
            await front.engine.acks.check()
            await front.engine.refuse_proxies()
            flusher = asyncio.create_task(_flush(front))
            try:
                yield
                await front.drained(DRAIN_S)
            finally:
                flusher.cancel()
                front.flush()

    async def not_routed(_request: Request, error: Exception) -> Response:
        answer = answer_to(error)
        front.meter.of("other", UNMATCHED).note(answer.status, 0.0)
        headers = {name.decode(): value.decode() for name, value in answer.headers}
        return Response(answer.body, answer.status, headers)

    v1 = [_route(front, path, list(rows)) for path, rows in groupby(ROUTES, key=lambda row: row.path)]
    app = Starlette(
        routes=[wechatpay.shortcut(front), *v1, *wechatpay.routes(front), *pages.routes(front)],
        exception_handlers={HTTPException: not_routed, Exception: not_routed},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.front = front
    return app


def lifespan_of(app: Starlette) -> AbstractAsyncContextManager[Any]:
    """Opens the application's engine, and closes it at the end."""
    return app.router.lifespan_context(app)


async def _flush(front: Front) -> None:
    while True:
        await asyncio.sleep(FLUSH_INTERVAL_S)
        front.flush()


def _route(front: Front, path: str, rows: list[Operation]) -> Route:
    operations = {row.method: row for row in rows}
    if "GET" in operations:
        operations["HEAD"] = operations["GET"]
    # Without methods: the path answers all of them, so that no other route with a wider pattern does.
    return Route(path, PathApp(front, path, operations), name=path)
