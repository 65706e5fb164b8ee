"""Logs on change: a loop that keeps failing in the same way logs it once, then once per minute with a count."""

import math
import re
from collections.abc import Callable, Hashable
from time import monotonic

SAID_AGAIN_S = 60.0
KEYS_MAX = 1_000
"""How many reasons are remembered. Beyond this the oldest is forgotten, and logged again if it comes back."""
_NUMBERS = re.compile(r"\d+")


class Repeats:
    """Remembers what was logged. ``now_s``: a clock that never goes back.

    Two reasons that differ only in a number are the same. Reasons that alternate are all remembered.
    """

    def __init__(self, now_s: Callable[[], float] = monotonic) -> None:
        self._now_s = now_s
        self._said: dict[Hashable, tuple[float, int]] = {}

    def times(self, key: Hashable, reason: str = "") -> int:
        """How often ``reason`` of ``key`` was met since it was last logged, or 0 if it must not be logged now."""
        now_s, known = self._now_s(), (key, _NUMBERS.sub("#", reason))
        said_s, before = self._said.get(known, (-math.inf, 0))
        if now_s - said_s < SAID_AGAIN_S:
            self._said[known] = said_s, before + 1
            return 0
        self._said.pop(known, None)
        if len(self._said) >= KEYS_MAX:
            del self._said[next(iter(self._said))]
        self._said[known] = now_s, 0
        return before + 1

    def forget(self) -> None:
        """Forget everything, so that it is logged again."""
        self._said.clear()


repeats = Repeats()
"""This process's memory."""
