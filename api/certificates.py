"""Which client certificate a request comes with: by our own TLS, or as a proxy names it that is believed.

Only the paths of WeChat Pay ask for one.
"""

import asyncio
import base64
import binascii
import hashlib
import re
import ssl
from collections.abc import Iterable
from urllib.parse import unquote

from starlette.types import Scope

from engine.networks import address_in, networks_in
from engine.settings import Settings

EXTENSION = "hongbao.client_certificate"
"""Where ``api.wire`` puts ``client_certificate``, in the scope's extensions."""
_HEADER_MAX = 16_384
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


def client_certificate(transport: asyncio.BaseTransport) -> bytes | None:
    """The client's certificate (DER), which our own TLS has verified. None without one, or without TLS."""
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    return None if tls is None else tls.getpeercert(binary_form=True)


class Certificates:
    """Finds the SHA-256 of a request's client certificate."""

    def __init__(self, settings: Settings) -> None:
        self._proxies = networks_in(settings.wechatpay_certificate_proxies)
        self._header = settings.wechatpay_certificate_header.lower().encode()

    def of(self, scope: Scope) -> str | None:
        """The SHA-256 in hexadecimal, None without a certificate.

        A proxy that is believed answers for its clients, so its own certificate is not theirs. Nobody else's header is
        read. A header that came twice is none: two readers might use different ones.
        """
        peer = address_in((scope.get("client") or ("", 0))[0])
        if peer is not None and any(peer in network for network in self._proxies):
            named = [value for name, value in scope["headers"] if name == self._header]
            return digest_in(named[0].decode("latin-1")) if len(named) == 1 else None
        der = scope.get("extensions", {}).get(EXTENSION)
        return None if der is None else hashlib.sha256(der).hexdigest()


def digest_in(header: str) -> str | None:
    """The SHA-256 that a header names, or that of the certificate in it. None if it is nothing of this.

    Forms: 64 hexadecimal digits, with colons or without; PEM, URL-encoded (nginx's $ssl_client_escaped_cert);
    :base64 of DER: (RFC 9440).
    """
    text = header.strip()
    if len(text) > _HEADER_MAX:
        return None
    plain = text.replace(":", "").lower()
    if _HASH.fullmatch(plain):
        return plain
    try:
        if text.startswith(":") and text.endswith(":"):
            der = base64.b64decode(text[1:-1], validate=True)
        else:
            der = ssl.PEM_cert_to_DER_cert(unquote(text, errors="strict"))
    except (ValueError, binascii.Error):
        return None
    return hashlib.sha256(der).hexdigest() if der else None


def is_one_of(digest: str | None, known: Iterable[str]) -> bool:
    """Whether a certificate is one of a merchant's."""
    return digest is not None and digest in known
