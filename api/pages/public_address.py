"""The address under which people reach this server: HONGBAO_PUBLIC_URL or, without it, the request's own Host."""

import re

from api.problems import MalformedError
from engine.settings import Settings

_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?){0,20}"
    r"|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
)
_HOST_LENGTH_MAX = 255


def origin_of(settings: Settings, host: bytes | None) -> str:
    """Scheme and host, without a slash at the end. Raises MalformedError if the header Host cannot be one."""
    if settings.public_url is not None:
        return settings.public_url
    text = (host or b"").decode("latin-1")
    if len(text) > _HOST_LENGTH_MAX or not _HOST.fullmatch(text):
        raise MalformedError("The header Host must name a host, perhaps with a port.", field="Host")
    return f"{'http' if settings.tls_certificate is None else 'https'}://{text}"
