"""One side of ``benchmarks.compare``: this checkout, or another with the same harness, loaded for a second at a time.

``bursts.py ROUNDS PACKETS [gateway]`` with the checkout on PYTHONPATH. Every round is a fresh server on a fresh Redis.
It prints ``ready``. Then each line on stdin is a number of connections: it plays a burst of workload A and prints a
line of JSON. An empty line ends the round, and its books are examined. ``gateway``: in that
shape (``benchmarks.rig.shapes``), else with bare headers.
"""

import json
import signal
import sys
from dataclasses import asdict, dataclass, replace

from benchmarks.rig import runs, stage, world, wrk
from benchmarks.rig.cpu import Meter
from benchmarks.rig.servers import OURS, Started
from benchmarks.rig.shapes import Shape
from benchmarks.rig.stage import Stage
from benchmarks.rig.walks import Walk, claim_lua
from benchmarks.rig.world import World

SHARES = 100
PACKETS_A_BURST = 1_000
"""Enough for a hundred thousand claims. The next burst uses what this one leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """``server_us`` and ``redis_us``: CPU time per claim. ``void``: why it does not count, or None."""

    claims_per_s: float
    server_us: float
    redis_us: float
    void: str | None


class Bursts:
    """A walk over a world's packets that goes on with each burst."""

    def __init__(self, stage: Stage, packets: World, server: Started, shape: Shape) -> None:
        self._stage, self._packets, self._server, self._shape = stage, packets.packets, server, shape
        self._next = 0

    def burst(self, connections: int) -> Burst:
        """Load the server for a second."""
        packets = self._packets[self._next : self._next + PACKETS_A_BURST]
        if not packets:
            return Burst(claims_per_s=0, server_us=0, redis_us=0, void="the packets ran out")
        walk = Walk(packets=packets, hands=SHARES)
        script = claim_lua(replace(walk, first=0, end=walk.length), self._stage.token, self._shape)
        meter = Meter({"server": [self._server.process.pid], "redis": [self._stage.redis.pid]})
        load = wrk.run(self._server.base_url, script, connections=connections, duration_s=1)
        used_s = meter.stop(wrk=load.cpu_s)
        taps = load.requests + connections  # some were in progress when wrk stopped
        self._next += -(-taps // SHARES)
        problems = load.problems() + (["the packets ran out"] if taps > walk.length else [])
        return Burst(
            claims_per_s=load.requests / load.duration_s,
            server_us=used_s["server"] / max(1, load.requests) * 1e6,
            redis_us=used_s["redis"] / max(1, load.requests) * 1e6,
            void="; ".join(problems) or None,
        )


def main(rounds: int, packets: int, shape: Shape) -> None:
    """Build the world once, then serve round after round. Raises errors that make a run void."""
    with stage.stage() as prepared:
        hundreds = world.build(prepared, "hundreds", packets=packets, shares=SHARES)
        for _ in range(rounds):
            with runs.serving(prepared, hundreds, OURS) as (server, _database):
                print("ready", flush=True)
                bursts = Bursts(prepared, hundreds, server, shape)
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
        main(rounds, packets, Shape.GATEWAY if "gateway" in sys.argv[3:] else Shape.BARE)
    except KeyboardInterrupt:
        sys.exit(130)
