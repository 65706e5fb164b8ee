"""The first page: what was sent today, what waits, how the lanes are."""

from starlette.responses import Response

from api.console.visits import Page, Visit


async def show(visit: Visit) -> Response:
    """The overview."""
    return await visit.page("overview.html")


ROUTES = (Page("GET", "/", show, "overview:read"),)
