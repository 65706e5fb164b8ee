"""Which requests a browser may send here: those to our own hosts, and changes only from our own pages.

A change must come from a page of this origin. Browsers say where a request comes from in Sec-Fetch-Site; those that do
not (before 2023) send Origin with every form. What says neither is refused. Any host that resolves to this machine
could else be used to reach it from a page (DNS rebinding), so the host must be one of ours, too.
"""

import ipaddress

from engine.access import tls
from engine.settings import Settings

SAME_ORIGIN = b"same-origin"


def origin_of(settings: Settings, port: int) -> str:
    """How browsers reach the console."""
    if settings.console_origin is not None:
        return settings.console_origin
    host = settings.console_host
    return f"{'https' if tls.is_on(settings) else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


class Origins:
    """The console's own origins."""

    def __init__(self, settings: Settings, port: int) -> None:
        own = origin_of(settings, port)
        self._origins = {own.encode()}
        if settings.console_origin is None and ipaddress.ip_address(settings.console_host).is_loopback:
            self._origins.add(f"{own.partition('://')[0]}://localhost:{port}".encode())
        # With a certificate of its own and no origin in the settings, its names are the certificate's.
        self._any_host = settings.console_origin is None and not _is_loopback(settings.console_host)
        self._hosts = {origin.partition(b"://")[2] for origin in self._origins}
        self._scheme = own.partition("://")[0].encode()

    def is_own_host(self, host: bytes) -> bool:
        """Whether a request's Host names this console."""
        return bool(host) and (self._any_host or host.lower() in self._hosts)

    def may_change(self, headers: dict[bytes, bytes]) -> bool:
        """Whether a request that changes something comes from one of our own pages."""
        site = headers.get(b"sec-fetch-site")
        if site is not None:
            return site == SAME_ORIGIN
        origin = headers.get(b"origin", b"")
        return origin in self._origins or (
            self._any_host and origin == self._scheme + b"://" + headers.get(b"host", b"")
        )


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback
