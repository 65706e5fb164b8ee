"""The results of any closed-loop load generator."""

from dataclasses import dataclass

CPU_SHARE_MAX = 0.9
"""A generator has one thread. Above this share of a core it may limit the figure, so the figure is void."""


class LoadFailedError(Exception):
    """A load generator did not run, or its output cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One run. ``failures``: kind -> how many. Latencies are a closed loop's: no real user would see them."""

    requests: int
    duration_s: float
    failures: dict[str, int]
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_s: float

    @property
    def per_s(self) -> float:
        """Answers per second."""
        return self.requests / self.duration_s

    @property
    def cpu_share(self) -> float:
        """How much of one core the generator itself used."""
        return self.cpu_s / self.duration_s

    def problems(self) -> list[str]:
        """Why a figure from this run is void."""
        found = [f"{count} {kind} errors" for kind, count in self.failures.items() if count]
        if self.cpu_share > CPU_SHARE_MAX:
            found.append(f"the load generator used {self.cpu_share:.0%} of a core, more than {CPU_SHARE_MAX:.0%}")
        if self.requests == 0:
            found.append("nothing was answered")
        return found
