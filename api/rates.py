"""Rate limits, kept in one process's memory: this many per window, by user or by address.

The generic cell rate algorithm: one time a key, no timer. A key may spend a whole window's quota at once and gets it
back evenly. What is remembered is bounded; the key not seen for longest is forgotten first, and begins with a whole
quota again.
"""

import ipaddress
import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from time import monotonic

from api.problems import RateLimitedError

KEYS_MAX = 100_000
"""How many keys a policy remembers: about 15 MB."""
_SLACK_S = 1e-6
_V6_PREFIX = 64
"""A customer of IPv6 is given at least this much of an address; what follows is theirs to choose."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Rate:
    """One policy: ``quota`` in any ``window_s`` seconds, for each key."""

    def __init__(
        self,
        name: str,
        quota: int,
        window_s: int,
        *,
        keys_max: int = KEYS_MAX,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.name, self.quota, self.window_s = name, quota, window_s
        self._keys_max, self._clock = keys_max, clock
        self._interval_s = window_s / quota
        self._paid_until_s: dict[str, float] = {}

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._paid_until_s)

    def take(self, key: str) -> None:
        """Spend one of the key's quota. Raises RateLimitedError, and then nothing is spent."""
        now_s = self._clock()
        paid_until_s = max(self._paid_until_s.get(key, -math.inf), now_s) + self._interval_s
        wait_s = paid_until_s - now_s - self.window_s
        if wait_s > _SLACK_S:
            raise RateLimitedError(self.name, self.quota, self.window_s, max(1, math.ceil(wait_s - _SLACK_S)))
        self._paid_until_s.pop(key, None)  # so that it comes last in the order of the dict
        self._paid_until_s[key] = paid_until_s
        if len(self._paid_until_s) > self._keys_max:
            del self._paid_until_s[next(iter(self._paid_until_s))]


class Rates:
    """What may be asked by one kind of key: claims, and everything else, each with its own quota or none (0)."""

    def __init__(self, whose: str, claims_max: int, requests_max: int, window_s: int) -> None:
        self._claims = Rate(f"claims-{whose}", claims_max, window_s) if claims_max else None
        self._requests = Rate(f"requests-{whose}", requests_max, window_s) if requests_max else None

    def take(self, key: str, *, is_claim: bool) -> None:
        """Spend one of the key's. Raises RateLimitedError."""
        rate = self._claims if is_claim else self._requests
        if rate is not None:
            rate.take(key)


class Addresses:
    """Where requests come from: the peer, or what a trusted proxy says in a header."""

    def __init__(self, proxies: Iterable[Network], header: str) -> None:
        self._proxies = tuple(proxies)
        self._header = header.lower().encode()

    def of(self, peer: str, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """The address to count by. ``headers``: names in lower case."""
        return _key(self.whole(peer, headers))

    def whole(self, peer: str, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """The address a request comes from; as it is told, where it is none.

        Of a chain of addresses the last one that is no trusted proxy: what is before it anybody could have written.
        """
        address = _address(peer)
        if address is None:
            return peer
        if not self._proxies or not self._trusts(address):
            return str(address)
        told = b",".join([value for name, value in headers if name == self._header]).decode("latin-1")
        for text in reversed(told.split(",")):
            before = _address(text.strip())
            if before is None:
                break
            address = before
            if not self._trusts(address):
                break
        return str(address)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._proxies)


@lru_cache(maxsize=16_384)
def _key(text: str) -> str:
    address = _address(text)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, _V6_PREFIX), strict=False))
    return text if address is None else str(address)


@lru_cache(maxsize=16_384)
def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
