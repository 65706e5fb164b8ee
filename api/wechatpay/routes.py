"""The routes of WeChat Pay's paths, beside those of /v1."""

from collections.abc import Mapping

from starlette.datastructures import URLPath
from starlette.routing import BaseRoute, Match, NoMatchFound, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from api.certificates import Certificates
from api.dispatch import Front
from api.wechatpay.bill_endpoint import BillEndpoint
from api.wechatpay.bills import PATHS
from api.wechatpay.calls import CALLS
from api.wechatpay.endpoint import Endpoint


def routes(front: Front) -> list[Route]:
    """One route per path. Without methods: another method is answered by the path itself."""
    certificates = Certificates(front.settings)
    by_path = {path: [row for row in PATHS if row.path == path] for path in dict.fromkeys(row.path for row in PATHS)}
    return [
        *(Route(kind.path, Endpoint(front, kind, certificates), name=kind.path) for kind in CALLS),
        *(Route(path, BillEndpoint(front, rows), name=path) for path, rows in by_path.items()),
    ]


def shortcut(front: Front) -> BaseRoute:
    """The paths without parameters, found at one look. Routes are tried one after another, and these would be last."""
    fixed = (route for route in routes(front) if not route.param_convertors)
    return _Shortcut({route.path: route.app for route in fixed})


class _Shortcut(BaseRoute):
    def __init__(self, apps: Mapping[str, ASGIApp]) -> None:
        self._apps = apps

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        is_here = scope["type"] == "http" and scope["path"] in self._apps
        return (Match.FULL, {"path_params": {}}) if is_here else (Match.NONE, {})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._apps[scope["path"]](scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: object) -> URLPath:
        raise NoMatchFound(name, dict(path_params))
