"""One box for everything: it goes to what is meant, or shows what might be."""

from urllib.parse import quote

from starlette.responses import Response

from api.console.texts import marked
from api.console.visits import Page, Visit
from engine.search import TEXT_LENGTH_MAX, Hit, find

_PLACES = {
    "packet": ("/packets", marked("Packet"), "packets:read"),
    "user": ("/users", marked("User"), "users:read"),
    "label": ("/labels", marked("Label"), "labels:read"),
    "dispute": ("/disputes", marked("Dispute"), "disputes:read"),
    "withdrawal": ("/withdrawals", marked("Withdrawal"), "withdrawals:read"),
    "campaign": ("/campaigns", marked("Campaign"), "campaigns:read"),
    "quarantine": ("/quarantine", marked("Quarantine"), "quarantine:read"),
    "approval": ("/approvals", marked("Approval"), "approvals:read"),
    "operator": ("/operators", marked("Operator"), "operators:read"),
    "coupon_batch": ("/users", marked("Coupon batch of"), "users:read"),
    "fundraiser": ("/users", marked("Fundraiser of"), "users:read"),
    "display": ("/users", marked("Shown name of"), "users:read"),
    "merchant": ("/users", marked("WeChat Pay merchant, account"), "users:read"),
    "order": ("/packets", marked("WeChat Pay order, packet"), "packets:read"),
    "unpaid_order": ("/users", marked("WeChat Pay order without a packet, account"), "users:read"),
}
"""Where each kind is shown, its name, and the right that it needs."""


async def search(visit: Visit) -> Response:
    """Go to the only thing that the text means. Otherwise show all that it may mean."""
    text = visit.query.text("q")[:TEXT_LENGTH_MAX]
    hits = [hit for hit in await find(visit.desk.looks, text) if _may_see(visit, hit)]
    meant = _meant(hits)
    if meant is not None and visit.query.text("all") != "1":
        return visit.redirect(_path(visit, meant))
    rows = [(visit.gettext(_PLACES[hit.kind][1]), hit, _path(visit, hit)) for hit in hits]
    return await visit.page("search.html", text=text, rows=rows)


def _meant(hits: list[Hit]) -> Hit | None:
    """The only one with this id. Names are chosen by users, so a name must never come before an id."""
    by_id = [hit for hit in hits if hit.is_exact and hit.name is None]
    if by_id:
        return by_id[0] if len(by_id) == 1 else None
    return hits[0] if len(hits) == 1 and hits[0].is_exact else None


def _may_see(visit: Visit, hit: Hit) -> bool:
    place, _, permission = _PLACES[hit.kind]
    return visit.may(permission) and any(path == place or path.startswith(f"{place}/") for path in _paths(visit))


def _path(visit: Visit, hit: Hit) -> str:
    """The page of one, or the list of its kind if none shows one."""
    place = _PLACES[hit.kind][0]
    has_own = any(path.startswith(f"{place}/{{") and path.count("/") == place.count("/") + 1 for path in _paths(visit))
    return f"{place}/{quote(hit.id, safe='')}" if has_own else place


def _paths(visit: Visit) -> frozenset[str]:
    return visit.desk.front.paths


ROUTES = (Page("GET", "/search", search, "search:read"),)
