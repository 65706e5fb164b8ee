"""One benchmark session: the stage, the plan, the servers, and all runs so far."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.rig import world as worlds
from benchmarks.rig.plan import Plan
from benchmarks.rig.runs import Run, Trial, run
from benchmarks.rig.servers import Server
from benchmarks.rig.stage import Stage
from benchmarks.rig.world import World


@dataclass(slots=True, kw_only=True)
class Bench:
    """``others``: results that are measured once and are no run (splits, memory), by name. ``say`` reports progress."""

    stage: Stage
    plan: Plan
    servers: Sequence[Server]
    say: Callable[[str], None]
    runs: list[Run] = field(default_factory=list)
    others: dict[str, Any] = field(default_factory=dict)
    _worlds: dict[str, World] = field(default_factory=dict)

    def world(self, name: str, *, packets: int, shares: int) -> World:
        """The world of this name. It is made at its first use."""
        if name not in self._worlds:
            started_s = time.monotonic()
            self._worlds[name] = worlds.build(self.stage, name, packets=packets, shares=shares)
            self.say(f"made {packets:,} packets of {shares:,} in {time.monotonic() - started_s:.1f} s")
        return self._worlds[name]

    def rounds(self, servers: Sequence[Server], rounds: int | None = None) -> Iterator[tuple[int, Server]]:
        """Each round's servers. A different one begins each round, so that none always follows the same one."""
        for number in range(1, (self.plan.rounds if rounds is None else rounds) + 1):
            for place in range(len(servers)):
                yield number, servers[(place + number - 1) % len(servers)]

    def run(self, world: World, server: Server, trial: Trial, number: int) -> Run:
        """Do one run and keep it."""
        return self.keep(run(self.stage, world, server, trial, number))

    def keep(self, done: Run) -> Run:
        """Keep a run and report it."""
        self.runs.append(done)
        self.say(line(done))
        return done

    def median(self, workload: str, server: str, connections: int, name: str) -> float | None:
        """The median of a figure over all valid runs so far."""
        values = sorted(
            float(done[name])
            for done in self.runs
            if (done["workload"], done["server"], done["connections"], done["void"])
            == (workload, server, connections, None)
        )
        return values[len(values) // 2] if values else None


def line(done: Run) -> str:
    """A run in one line."""
    about = f"{done['workload']:<27} round {done['round']} {done['server']:<9}"
    about += f" {done['connections']:>4} connections" if done.get("connections") else ""
    if done["void"]:
        return f"{about}  VOID: {done['void']}"
    if "bytes_a_connection" in done:
        return f"{about} {done['bytes_a_connection']:>10,.0f} bytes each"
    rate = done.get("durable_per_s") or done.get("answers_per_s") or 0
    costs = " ".join(f"{name} {us:.1f}" for name, us in done.get("cpu_us_per_answer", {}).items())
    return f"{about} {rate:>10,.0f}/s" + (f"  us: {costs}" if costs else "")
