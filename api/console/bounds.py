"""What people without a session may cause: tries to sign in, and rows of a log that never forgets."""

from collections import OrderedDict
from dataclasses import dataclass, field
from time import monotonic

from api.addresses import network_of

NOBODYS_A_MINUTE_MAX = 60
"""Rows of the operator log."""
TRIES_A_MINUTE_MAX = 20
"""Tries to sign in, per address. Each costs some tens of MiB and a core for a moment."""
ADDRESSES_MAX = 10_000
"""Addresses that are remembered. The one that was not seen for the longest time is forgotten first."""


@dataclass(slots=True)
class Bucket:
    """So many a minute, and no more."""

    a_minute: int
    _left: float = 0.0
    _at_s: float = 0.0

    def take(self) -> bool:
        """Whether there is one left, which is taken."""
        now_s = monotonic()
        if self._at_s == 0.0:
            self._left = float(self.a_minute)
        else:
            self._left = min(float(self.a_minute), self._left + (now_s - self._at_s) * self.a_minute / 60)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass(slots=True)
class Bounds:
    """One process's."""

    nobodys: Bucket = field(default_factory=lambda: Bucket(NOBODYS_A_MINUTE_MAX))
    _tries: "OrderedDict[str, Bucket]" = field(default_factory=OrderedDict)

    def tries_of(self, address: str) -> Bucket:
        """Those of an address or, for IPv6, of the network whose addresses one customer has."""
        address = network_of(address)
        bucket = self._tries.pop(address, None) or Bucket(TRIES_A_MINUTE_MAX)
        self._tries[address] = bucket
        if len(self._tries) > ADDRESSES_MAX:
            self._tries.popitem(last=False)
        return bucket
