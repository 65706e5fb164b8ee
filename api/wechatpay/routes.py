"""The routes of WeChat Pay's paths, beside those of /v1."""

from starlette.routing import Route

from api.certificates import Certificates
from api.dispatch import Front
from api.wechatpay.calls import CALLS
from api.wechatpay.endpoint import Endpoint


def routes(front: Front) -> list[Route]:
    """One route per path. Without methods: another method is answered by the path itself."""
    certificates = Certificates(front.settings)
    return [Route(kind.path, Endpoint(front, kind, certificates), name=kind.path) for kind in CALLS]
