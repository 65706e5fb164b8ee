"""A request's address: the peer's, or the one that a trusted proxy names in the configured header.

Nothing else reads these headers. uvicorn's own reading of them is off (``api.server``).
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

from engine.networks import Address, Network, address_in
from engine.settings import AddressHeader

_V6_PREFIX = 64
"""An IPv6 customer gets at least a network of this size, and chooses the rest of the address freely."""
_PORT = r"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?"
_NODE = re.compile(rf"\[(?P<in_brackets>[0-9A-Fa-f:.]+)\]{_PORT}|(?P<v4>[0-9.]+){_PORT}|(?P<bare>[0-9A-Fa-f:.]+)")
"""An address with or without a port (RFC 7239, section 6). IPv6 without brackets has no port."""
_PAIR = r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(\"(?:[^\"\\]|\\.)*\"|[^\s\",;\\]*)"
_ONE_PAIR = re.compile(_PAIR)
_ELEMENT = re.compile(rf"[ \t]*+(?:{_PAIR})?(?:[ \t]*+;[ \t]*+(?:{_PAIR})?)*+[ \t]*+")
"""The quantifiers are possessive, because blanks can be read in two ways: a long line of them must stay cheap."""


class Addresses:
    """The addresses of requests: the peer's, or the one that a trusted proxy names."""

    def __init__(self, proxies: Iterable[Network], header: AddressHeader) -> None:
        self._proxies = tuple(proxies)
        self._header = header.encode()
        self._nodes_of: Callable[[str], Iterator[str]] = _forwarded if header == "forwarded" else _listed

    def key(self, peer: str, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """The key for rate limits: the address or, for IPv6, its network. ``headers``: names in lower case."""
        return network_of(self.of(peer, headers))

    def of(self, peer: str, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """A request's address, or ``peer`` itself if that is not an address.

        In a chain of addresses, the last one that is not a trusted proxy counts. Anyone could have written the others.
        If a trusted proxy names no address (``unknown``, ``_hidden``), the proxy's own address counts.
        """
        address = _address(peer)
        if address is None:
            return peer
        if not self._proxies or not self._trusts(address):
            return str(address)
        for line in reversed([value for name, value in headers if name == self._header]):
            for node in self._nodes_of(line.decode("latin-1")):
                before = _node(node)
                if before is None:
                    return str(address)
                address = before
                if not self._trusts(address):
                    return str(address)
        return str(address)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._proxies)


def _listed(line: str) -> Iterator[str]:
    """The elements between a line's commas, the last first. Empty elements do not count (RFC 9110, 5.6.1.2)."""
    for part in reversed(line.split(",")):
        if node := part.strip(" \t"):
            yield node


def _forwarded(line: str) -> Iterator[str]:
    """The client in each element of a Forwarded line (RFC 7239), the last first. Empty if an element names none.

    The line is read from its end. An element begins at the nearest comma after which it is well formed. So a client's
    text, such as a quote that it never closed, cannot change how the proxies' elements are read.
    """
    start = end = len(line)
    while start >= 0:
        start = line.rfind(",", 0, start)  # -1: the line's first element
        if _ELEMENT.fullmatch(line, start + 1, end):
            if line[start + 1 : end].strip(" \t"):
                yield _for(line, start + 1, end)
            end = start
        elif start < 0:
            yield ""


def _for(line: str, start: int, end: int) -> str:
    named = [value for name, value in _ONE_PAIR.findall(line, start, end) if name.lower() == "for"]
    if len(named) != 1:  # it names no client, or two
        return ""
    (value,) = named
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


@lru_cache(maxsize=16_384)
def network_of(text: str) -> str:
    """An address as it is counted: itself or, for IPv6, its network."""
    address = address_in(text)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, _V6_PREFIX), strict=False))
    return text if address is None else str(address)


@lru_cache(maxsize=16_384)
def _node(text: str) -> Address | None:
    """The address in a proxy's element, which may have a port."""
    found = _NODE.fullmatch(text)
    return None if found is None else address_in(found["in_brackets"] or found["v4"] or found["bare"])


_address = lru_cache(maxsize=16_384)(address_in)
