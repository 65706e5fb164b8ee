"""The wait between tries."""


class Backoff:
    """The wait before the next restart. It doubles up to a bound, and starts anew after a healthy run."""

    first_s = 0.2
    max_s = 10.0
    healthy_s = 30.0

    def __init__(self) -> None:
        self._next_s = self.first_s

    def delay_s(self, *, ran_s: float) -> float:
        """The delay after a run of ``ran_s`` seconds."""
        if ran_s >= self.healthy_s:
            self._next_s = self.first_s
        delay_s, self._next_s = self._next_s, min(self._next_s * 2, self.max_s)
        return delay_s
