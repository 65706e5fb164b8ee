"""A selection of runs and their figures: one workload of one server. Void runs never count."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.rig.figures import Figure, figure
from benchmarks.rig.runs import Run

Value = str | Callable[[Run], float]
"""A field of a run (``latency_ms/p99``: a nested field; 0 if absent), or a function that makes a number of a run."""

SERVERS = {
    "hongbao": "Hongbao",
    "go-group": "Go with group commit",
    "go": "Go",
    "nginx": "nginx+Lua",
    "fastify": "Fastify",
    "textbook": "textbook",
    "postgres": "straight on Postgres",
}
"""Short names, in the order of every table."""


@dataclass(frozen=True, slots=True)
class Selection:
    """``connections`` None: any number of connections."""

    runs: Sequence[Run]
    workload: str
    server: str = "hongbao"
    connections: int | None = None

    def __iter__(self) -> Iterator[Run]:
        """The runs that count."""
        for run in self.runs:
            chosen = run["workload"] == self.workload and run["server"] == self.server
            if chosen and run["void"] is None and self.connections in (None, run["connections"]):
                yield run

    def by_round(self, value: Value) -> dict[int, float]:
        """Round -> value."""
        return {int(run["round"]): _value(run, value) for run in self}

    def figure(self, value: Value) -> Figure | None:
        """The median and spread over the rounds."""
        return figure(self.by_round(value).values())

    def processes(self) -> list[str]:
        """The names of the processes whose CPU time was taken."""
        return list(dict.fromkeys(name for run in self for name in run["cpu_us_per_answer"]))


def cpu_us(*names: str) -> Callable[[Run], float]:
    """CPU time of some processes together, in microseconds per answer."""
    return lambda run: sum(float(run["cpu_us_per_answer"].get(name, 0.0)) for name in names)


def _value(run: Run, value: Value) -> float:
    if not isinstance(value, str):
        return value(run)
    found: object = run
    for name in value.split("/"):
        found = found.get(name, 0.0) if isinstance(found, dict) else 0.0
    return float(str(found))
