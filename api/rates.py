"""Rate limits, kept in one process's memory: this many per window, by user or by address.

This is the generic cell rate algorithm: one time per key, no timer. A key may spend a whole window's quota at once, and
gets it back evenly. The memory is bounded. The key that was unseen for longest is forgotten first, and then starts with
a whole quota again.
"""

import math
from collections.abc import Callable
from time import monotonic

from api.problems import RateLimitedError

KEYS_MAX = 100_000
"""How many keys a policy remembers: about 15 MB."""
_SLACK_S = 1e-6


class Rate:
    """One policy: ``quota`` per ``window_s`` seconds and key."""

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
        """Spend one of the key's quota. If this raises RateLimitedError, nothing was spent."""
        now_s = self._clock()
        paid_until_s = max(self._paid_until_s.get(key, -math.inf), now_s) + self._interval_s
        wait_s = paid_until_s - now_s - self.window_s
        if wait_s > _SLACK_S:
            raise RateLimitedError(self.name, self.quota, self.window_s, max(1, math.ceil(wait_s - _SLACK_S)))
        self._paid_until_s.pop(key, None)  # so that the key is last in the dict
        self._paid_until_s[key] = paid_until_s
        if len(self._paid_until_s) > self._keys_max:
            del self._paid_until_s[next(iter(self._paid_until_s))]


class Rates:
    """The limits of one kind of key: claims and other requests, each with its own quota or none (0)."""

    def __init__(self, whose: str, claims_max: int, requests_max: int, window_s: int) -> None:
        self._claims = Rate(f"claims-{whose}", claims_max, window_s) if claims_max else None
        self._requests = Rate(f"requests-{whose}", requests_max, window_s) if requests_max else None

    def take(self, key: str, *, is_claim: bool) -> None:
        """Spend one of the key's quota. Raises RateLimitedError."""
        rate = self._claims if is_claim else self._requests
        if rate is not None:
            rate.take(key)
