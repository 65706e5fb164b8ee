"""What a closed-loop load generator found, whichever it was."""

from dataclasses import dataclass

CPU_SHARE_MAX = 0.9
"""A generator runs one thread; past this share of a core it may be what limits the figure, and the figure is void."""


class LoadFailedError(Exception):
    """A load generator did not run, or printed what cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One run. ``failures``: kind -> how many. Latencies are a closed loop's: raw material, not anyone's latency."""

    requests: int
    duration_s: float
    failures: dict[str, int]
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_s: float

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return self.requests / self.duration_s

    @property
    def cpu_share(self) -> float:
        """How much of one core the generator itself used."""
        return self.cpu_s / self.duration_s

    def problems(self) -> list[str]:
        """What makes a figure from this run void."""
        found = [f"{count} {kind} errors" for kind, count in self.failures.items() if count]
        if self.cpu_share > CPU_SHARE_MAX:
            found.append(f"the load generator used {self.cpu_share:.0%} of a core, more than {CPU_SHARE_MAX:.0%}")
        if self.requests == 0:
            found.append("nothing was answered")
        return found
