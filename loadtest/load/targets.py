"""Where load may go: to this machine, unless the operator names another host on purpose."""

import ipaddress
from urllib.parse import urlsplit

from engine.errors import OperatorError


def checked_url(url: str, allowed_host: str | None = None) -> str:
    """``url`` as http(s)://host:port, without a path. ``allowed_host``: the only other host that load may go to.

    Raises OperatorError for any other kind of URL, and for a host that is neither this machine nor allowed.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.path.strip("/") or parts.query or parts.username:
        raise OperatorError(f"{url!r} is not the URL of a server; it must look like http://127.0.0.1:8080.")
    if not is_this_machine(host) and host != (allowed_host or "").lower():
        raise OperatorError(
            f"Load goes to this machine only, and {host} is another: to allow it, add --allow-remote {host}."
        )
    literal = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{literal}" + (f":{port}" if port is not None else "")


def is_this_machine(host: str) -> bool:
    """Whether ``host`` is a loopback address. Of names, only localhost is: others may resolve to anything."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
