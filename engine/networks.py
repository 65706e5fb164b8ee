"""IP addresses and networks in one form for comparison: IPv4 written as IPv6 becomes IPv4."""

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_MAPPED_BITS = 96
"""The prefix of an IPv4 address that is written as IPv6 (``::ffff:192.0.2.1``)."""


def address_in(text: str) -> Address | None:
    """The address without the name of an interface (``%eth0``). None if it is not an address."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def network_in(text: str) -> Network:
    """An address or a network. Raises ValueError, also for a network whose address has bits beyond its prefix."""
    network = ipaddress.ip_network(text)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < _MAPPED_BITS:
        return network
    return ipaddress.ip_network((mapped, network.prefixlen - _MAPPED_BITS))


def networks_in(text: str) -> list[Network]:
    """Addresses and networks with commas between them. Raises ValueError."""
    return [network_in(part.strip()) for part in text.split(",") if part.strip()]
