"""The routes of WeChat Pay's paths, beside those of /v1."""

from starlette.routing import Route

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
