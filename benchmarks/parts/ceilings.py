"""What the load generators can do: each against a server that does nothing, with both shapes of requests."""

import sys
from typing import Any

from benchmarks.parts.storms import CONNECTIONS
from benchmarks.peers.availability import HERE as PEERS
from benchmarks.rig import generators, wrk
from benchmarks.rig.bench import Bench
from benchmarks.rig.load import CPU_SHARE_MAX
from benchmarks.rig.servers import Server, started
from benchmarks.rig.shapes import Shape
from benchmarks.rig.walks import Walk, claim_lua

ANSWERER = Server(
    name="answerer",
    title="the same answer to everything",
    argv=lambda stage, folder, port: (sys.executable, "-m", "benchmarks.peers.answerer"),
    variables=lambda stage, database, port: {"PORT": str(port), "PYTHONPATH": str(PEERS.parent.parent)},
)
_PACKETS = tuple(f"10000{number:014d}" for number in range(3_200))
_OPEN_LOOP_PER_S = 20_000


def ceilings(bench: Bench) -> None:
    """Take each generator's own CPU time per request. The ceiling is what it could send in its share of a core."""
    found = []
    with started(bench.stage, ANSWERER, "") as server:
        for shape in Shape:
            walk = Walk(packets=_PACKETS, hands=100, end=len(_PACKETS) * 100)
            for connections in CONNECTIONS:
                script = claim_lua(walk, bench.stage.token, shape)
                load = wrk.run(server.base_url, script, connections=connections, duration_s=bench.plan.seconds)
                found.append(_row(("wrk", shape, connections), load.requests, load.per_s, load.cpu_s))
            orders: dict[str, Any] = {"connections": CONNECTIONS[-1], "rate_per_s": _OPEN_LOOP_PER_S, "shape": shape}
            orders |= {"seconds": bench.plan.seconds, "seed": 2016}
            done = generators.run(bench.stage, server, "open_loop_client", walk, **orders)
            found.append(_row(("open loop", shape, CONNECTIONS[-1]), done["answered"], done["per_s"], done["cpu_s"]))
    for row in found:
        bench.say(f"{row['generator']}, {row['shape']}: {row['cpu_us']:.1f} us a request")
    bench.others["ceilings"] = {"of": found}


def _row(about: tuple[str, Shape, int], requests: int, per_s: float, cpu_s: float) -> dict[str, Any]:
    generator, shape, connections = about
    cpu_us = cpu_s / max(1, requests) * 1e6
    told = {"generator": generator, "shape": shape.value, "connections": connections}
    return {**told, "per_s": per_s, "cpu_us": cpu_us, "ceiling_per_s": CPU_SHARE_MAX / cpu_us * 1e6}
