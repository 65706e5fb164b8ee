"""How often, how long and how patiently a request is tried."""

import random
from collections.abc import Callable
from dataclasses import dataclass

DOUBLED_MAX = 30
"""How often the back-off is doubled at most. No wait that anybody wants is longer, and the number stays small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """Bounds of one call, all tries and waits together.

    ``tries_max``: requests in all. ``deadline_s``: from the call to its result or error. ``timeout_s``: for the answer
    to one request. ``connect_timeout_s``: for a connection, of it. ``backoff_s``: the longest wait before the second
    try; it doubles with each, up to ``backoff_s_max``. ``Client``, which no clock interrupts, looks at the time between
    the parts of an answer, so a server that sends a head byte by byte can keep it longer.
    """

    tries_max: int = 5
    deadline_s: float = 30.0
    timeout_s: float = 10.0
    connect_timeout_s: float = 3.0
    backoff_s: float = 0.1
    backoff_s_max: float = 5.0

    def __post_init__(self) -> None:
        """Raise ValueError for bounds that are none."""
        if self.tries_max < 1:
            raise ValueError("tries_max must be at least 1")
        for name in ("deadline_s", "timeout_s", "connect_timeout_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
        if not 0 <= self.backoff_s <= self.backoff_s_max:
            raise ValueError("backoff_s must be from 0 to backoff_s_max")

    def pause_s(self, tries: int, retry_after_s: float | None, draw: Callable[[], float] = random.random) -> float:
        """The wait after this many tries: at least what the server asks for.

        ``draw``: a number from 0 to 1. Chance keeps clients that were refused together from returning together.
        """
        most_s = min(self.backoff_s_max, self.backoff_s * 2.0 ** min(tries - 1, DOUBLED_MAX))
        return (retry_after_s or 0.0) + draw() * most_s


NEVER = Retries(tries_max=1)
"""One try, for callers that repeat by themselves."""
