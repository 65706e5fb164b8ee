"""The first page: what moved today, what waits for somebody, how the lanes are."""

from starlette.responses import Response

from api.console.visits import Page, Visit
from engine.backoffice.overview import overview


async def show(visit: Visit) -> Response:
    """The overview."""
    engine = visit.desk.engine
    told = await overview(visit.desk.looks, engine.store, engine.stream)
    return await visit.page("overview.html", told=told, waiting=told.waiting, now_ms=told.at_ms)


ROUTES = (Page("GET", "/", show, "overview:read"),)
