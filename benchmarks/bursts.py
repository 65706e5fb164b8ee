"""One side of ``benchmarks.compare``: this checkout, or another with the same harness, loaded for a second at a time.

``bursts.py ROUNDS PACKETS [gateway] [durable]`` with the checkout on PYTHONPATH. Every round is a fresh server on a
fresh Redis. It prints ``ready``. Then each line on stdin is a number of connections: it plays a burst of workload A and
prints a line of JSON. An empty line ends the round, and its books are examined. ``gateway``: in that shape
(``benchmarks.rig.shapes``), else with bare headers. ``durable``: everything is on, and a burst ends when the last of
its claims is in the ledger (as workload E).
"""

import json
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from benchmarks.rig import processes, runs, stage, world, wrk
from benchmarks.rig.cpu import Meter
from benchmarks.rig.servers import OURS, Started
from benchmarks.rig.shapes import Shape
from benchmarks.rig.stage import Stage
from benchmarks.rig.variants import Variant
from benchmarks.rig.walks import Walk, claim_lua
from benchmarks.rig.world import World, positions
from engine.supervision.child import Process

SHARES = 100
PACKETS_A_BURST = 1_000
"""Enough for a hundred thousand claims. The next burst uses what this one leaves."""
_DRAIN_S_MAX = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """``…_us``: CPU time per claim; None for what does not run. ``void``: why the burst does not count, or None."""

    claims_per_s: float
    server_us: float
    redis_us: float
    persist_us: float | None = None
    postgres_us: float | None = None
    void: str | None


class Bursts:
    """A walk over a world's packets that goes on with each burst. ``others``: our processes beside the server."""

    def __init__(
        self, stage: Stage, packets: World, server: Started, shape: Shape, others: Mapping[str, Process] | None = None
    ) -> None:
        self._stage, self._world, self._server, self._shape = stage, packets, server, shape
        self._others = others or {}
        self._next = 0

    def burst(self, connections: int) -> Burst:
        """Load the server for a second. Raises NotStartedError if the ledger does not get the claims."""
        packets = self._world.packets[self._next : self._next + PACKETS_A_BURST]
        if not packets:
            return Burst(claims_per_s=0, server_us=0, redis_us=0, void="the packets ran out")
        walk = Walk(packets=packets, hands=SHARES)
        script = claim_lua(replace(walk, first=0, end=walk.length), self._stage.token, self._shape)
        meter, began_s = Meter(runs.trees(self._stage, self._server, self._others)), time.monotonic()
        load = wrk.run(self._server.base_url, script, connections=connections, duration_s=1)
        took_s = load.duration_s
        if self._others:
            self._wait_for_the_ledger()
            took_s = time.monotonic() - began_s
        used_s = meter.stop(wrk=load.cpu_s)
        taps = load.requests + connections  # some were in progress when wrk stopped
        self._next += -(-taps // SHARES)
        problems = load.problems() + (["the packets ran out"] if taps > walk.length else [])
        cost_us = {name: used / max(1, load.requests) * 1e6 for name, used in used_s.items()}
        return Burst(
            claims_per_s=load.requests / took_s,
            server_us=cost_us["server"],
            redis_us=cost_us["redis"],
            persist_us=cost_us.get("persist"),
            postgres_us=cost_us.get("postgres"),
            void="; ".join(problems) or None,
        )

    def _wait_for_the_ledger(self) -> None:
        with self._stage.redis.client() as client:

            def has_all() -> bool:
                position, applied = positions(client, self._world.lanes)
                return position == applied

            processes.wait_until("the ledger", self._others["persist"], has_all, _DRAIN_S_MAX)


@contextmanager
def _round(prepared: Stage, hundreds: World, variant: Variant) -> Iterator[Bursts]:
    with (
        runs.serving(prepared, hundreds, OURS, appendfsync=variant.appendfsync) as (server, database),
        runs.beside(prepared, database, variant.beside) as others,
    ):
        yield Bursts(prepared, hundreds, server, variant.shape, others)


def main(rounds: int, packets: int, variant: Variant) -> None:
    """Build the world once, then serve round after round. Raises errors that make a run void."""
    with stage.stage() as prepared:
        hundreds = world.build(prepared, "hundreds", packets=packets, shares=SHARES)
        for _ in range(rounds):
            with _round(prepared, hundreds, variant) as bursts:
                print("ready", flush=True)
                while connections := sys.stdin.readline().strip():
                    print(json.dumps(asdict(bursts.burst(int(connections)))), flush=True)
            prepared.redis.stop()


def _stop_once(number: int, _frame: object) -> None:
    """Unwind at the first SIGINT and ignore the second: the terminal sends one, and the parent another."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGINT, _stop_once)
    try:
        rounds, packets = map(int, sys.argv[1:3])
        shape = Shape.GATEWAY if "gateway" in sys.argv[3:] else Shape.BARE
        main(rounds, packets, Variant(shape=shape, everything_on="durable" in sys.argv[3:]))
    except KeyboardInterrupt:
        sys.exit(130)
