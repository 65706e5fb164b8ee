"""The console's application: its pages, its files, and what probes and scrapers ask for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.console import headers
from api.console.desk import Desk, Front
from api.console.gate import Gate
from api.console.pages import ACTIONS, PAGES
from api.console.visits import Page, PublicPage
from engine.errors import UnavailableError
from engine.ledger.database import ledger_errors
from engine.observability import metrics
from engine.settings import Settings


def create_app(settings: Settings, port: int) -> Starlette:
    """The whole console. Its lifespan connects to the servers; its start raises OperatorError if one is missing.

    ``port``: where it listens, for the check of origins.
    """
    front, gate = Front.of(settings, port, frozenset(row.path for row in PAGES)), Gate()

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with Desk.open(front, list(ACTIONS)) as gate.desk:
            app.state.desk = gate.desk
            yield

    async def static(request: Request) -> Response:
        answer = front.static.answer(request.url.path, request.headers.get("accept-encoding", ""))
        return gate.finish(request, answer or gate.told(request, 404, ""))

    async def livez(_request: Request) -> Response:
        return _plain(200, "live\n")

    async def readyz(_request: Request) -> Response:
        try:
            if gate.desk is None:
                return _plain(503, "starting\n")
            with ledger_errors():
                await gate.desk.looks.fetchval("SELECT 1")
        except UnavailableError as error:
            return _plain(503, f"{error}\n")
        return _plain(200, "ready\n")

    async def shown_metrics(_request: Request) -> Response:
        return _plain(200, await asyncio.to_thread(metrics.render), metrics.CONTENT_TYPE)

    async def not_routed(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return gate.finish(request, gate.told(request, status if status in (404, 405) else 500, ""))

    routes: list[BaseRoute] = [_route(gate, row) for row in PAGES]
    routes += [
        Route("/static/{rest:path}", static, methods=["GET"]),
        Route("/livez", livez, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", shown_metrics, methods=["GET"]),
    ]
    app = Starlette(
        routes=routes, exception_handlers={HTTPException: not_routed, Exception: not_routed}, lifespan=lifespan
    )
    app.router.redirect_slashes = False
    return app


def _route(gate: Gate, row: Page | PublicPage) -> Route:
    async def endpoint(request: Request) -> Response:
        return await gate.answer(request, row)

    return Route(row.path, endpoint, methods=[row.method])


def _plain(status: int, body: str | bytes, media_type: str = "text/plain; charset=utf-8") -> Response:
    return headers.finish(Response(body, status, headers={"content-type": media_type}), is_https=False)
