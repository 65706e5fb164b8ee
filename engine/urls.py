"""Rules for URLs in settings. An error never repeats the URL, because it may hold a password."""

import ipaddress
import re
import socket
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

_NOT_ENCODED = re.compile(r"[\[\]\s]|%(?![0-9A-Fa-f]{2})")
_UNSAFE = re.compile(r"[\x00-\x20\"'<>\\^`{|}\x7f]")
_INSIDE = (".localhost", ".local", ".internal")
_ORIGIN = re.compile(r"https://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


def check_server(url: str, schemes: Sequence[str]) -> None:
    """Raise ValueError unless it can be a server's URL with one of these schemes. Commas separate several hosts."""
    scheme, _, rest = url.partition("://")
    if scheme not in schemes:
        raise ValueError(f"it must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if scheme != "unix":  # a socket's path may hold anything
        _check_encoded(rest)
    for host in urlsplit(url).netloc.rpartition("@")[2].split(","):
        _check_port(host)


def check_webhook(url: str) -> None:
    """Raise ValueError unless alerts may be sent there: over TLS, or to this machine. It does not repeat the URL."""
    parts = urlsplit(url)
    _check_port(parts.netloc.rpartition("@")[2])
    if "@" in parts.netloc:
        raise ValueError("it must not hold a user or a password: alerts are signed instead")
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("it must begin with https:// and name a host")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError("it must begin with https://, unless it is an address of this machine (127.0.0.1)")


def check_outside(url: str) -> None:
    """Raise ValueError unless a request of ours may go there for somebody else: over TLS, and not into our own network.

    Of a name it cannot say where it leads: keep what sends such requests from what nobody else may reach.
    """
    check_webhook(url)
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme != "https":
        raise ValueError("it must begin with https://")
    address = _address(host)
    if address is not None and (not address.is_global or address.is_multicast):
        raise ValueError("it must not be an address of a private network")
    if address is None and ("." not in host or host.endswith(_INSIDE)):
        raise ValueError("it must not be a name of a private network")


def check_origin(url: str) -> None:
    """Raise ValueError unless it is the scheme and host of a web server, perhaps with a port, and nothing more."""
    parts = check_page(url)
    if parts.path or parts.query or url.endswith(("?", "/")):
        raise ValueError("it must end with the host or its port: https://hongbao.example.org")


def check_page(url: str) -> SplitResult:
    """The parts of a web page's URL. Raises ValueError if a browser could not be sent there."""
    parts = urlsplit(url)
    _check_port(parts.netloc)
    if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("it must begin with https:// or http:// and name a host")
    if "#" in url or not url.isascii() or _UNSAFE.search(url):
        raise ValueError("it must hold neither # nor quotes, blanks, or characters that are not ASCII")
    return parts


def check_provider(url: str) -> None:
    """Raise ValueError unless people and their secrets may be sent there: over TLS, or to this machine."""
    parts = check_page(url)
    if parts.scheme == "http" and parts.hostname != "localhost" and not _is_loopback(parts.hostname or ""):
        raise ValueError("it must begin with https://, unless it is an address of this machine (127.0.0.1)")


def check_tls_origin(origin: str) -> None:
    """Raise ValueError unless it is a web origin with TLS: https://, a host in lower case, perhaps a port."""
    _check_port(origin.partition("://")[2])
    if not _ORIGIN.fullmatch(origin):
        raise ValueError("it must be https:// and a host in lower case, perhaps with a port, and nothing after it")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is in any form that a resolver takes (127.1, 0x7f000001, ::ffff:127.0.0.1)."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return None
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_encoded(rest: str) -> None:
    """Raise ValueError if the user or password in ``rest`` (after ``scheme://``) is not percent-encoded.

    A ``/``, ``?`` or ``#`` would end them, and the rest would look like a host. Readers of two ``@`` disagree.
    """
    before_query, _, query = rest.partition("?")
    authority, _, path = before_query.partition("/")
    user = authority.rpartition("@")[0]
    is_cut = (
        "#" in rest or "@" in path or (authority and "@" in query and "@" not in authority and not _has_host(authority))
    )
    if is_cut or "@" in user or _NOT_ENCODED.search(user):
        raise ValueError(
            "its user and password must be percent-encoded: write # as %23, / as %2F, ? as %3F, @ as %40, % as %25"
        )


def _has_host(authority: str) -> bool:
    try:
        parts = urlsplit(f"//{authority}")
        _ = parts.port
    except ValueError:
        return False
    return bool(parts.hostname)


def _check_port(host: str) -> None:
    """Raise ValueError for an invalid port. It does not repeat the URL."""
    try:
        _ = urlsplit(f"//{host}").port
    except ValueError:
        raise ValueError("its port is not a number from 0 to 65535") from None
