"""Logs on change: a loop that fails in the same way each turn says so once, and then once a minute how often it did."""

import math
import re
from collections.abc import Callable, Hashable
from time import monotonic

SAID_AGAIN_S = 60.0
KEYS_MAX = 1_000
"""What is remembered at a time; of more, the longest known is forgotten and said anew."""
_NUMBERS = re.compile(r"\d+")


class Repeats:
    """What was said of what. ``now_s``: a clock that never goes back.

    A reason in which only a number differs is the same; and two that come in turn are both known.
    """

    def __init__(self, now_s: Callable[[], float] = monotonic) -> None:
        self._now_s = now_s
        self._said: dict[Hashable, tuple[float, int]] = {}

    def times(self, key: Hashable, reason: str = "") -> int:
        """Whether to log ``reason`` of ``key``: how often it was met since it was last logged, 0 for not now."""
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
        """Say everything anew."""
        self._said.clear()


repeats = Repeats()
"""The process's."""
