"""Latency under an open loop at half of what the server can do: intended send times, not those the server allows."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import wrk
from benchmarks.bench import Bench
from benchmarks.cpu import Meter
from benchmarks.runs import FAILURES, Run, serving
from benchmarks.servers import GO, OURS, Server
from benchmarks.stage import Stage
from benchmarks.walks import Walk, claim_lua
from benchmarks.world import World

CONNECTIONS = 256
SHARE_OF_SATURATION = 0.5
CPU_SHARE_MAX = 0.9
_WARM_UP_SHARE = 0.25
_ROOT = Path(__file__).parent.parent


def open_loop(bench: Bench) -> None:
    """Half of A's median at 256 connections, ours and Go, each at half of its own."""
    world = bench.world("hundreds", packets=bench.plan.packets_of_100, shares=100)
    walk = Walk(packets=world.packets, hands=100)
    chosen = [server for server in bench.servers if server in (OURS, GO)]
    for number, server in bench.rounds(chosen, bench.plan.costly_rounds):
        saturation = bench.median("A", server.name, CONNECTIONS, "answers_per_s")
        about = {"workload": "open loop", "server": server.name, "round": number, "connections": CONNECTIONS}
        try:
            bench.keep({**about, **_run(bench, world, server, walk, saturation)})
        except FAILURES as error:
            bench.keep({**about, "void": f"{type(error).__name__}: {error}"})
        finally:
            bench.stage.redis.stop()


def _run(bench: Bench, world: World, server: Server, walk: Walk, saturation: float | None) -> Run:
    stage, middle = bench.stage, int(walk.length * _WARM_UP_SHARE)
    warm_up = claim_lua(dataclasses.replace(walk, first=0, end=middle), stage.token)
    with serving(stage, world, server) as (running, _):
        # The warm-up saturates it; where A was not measured, that is the saturation.
        load = wrk.run(running.base_url, warm_up, connections=CONNECTIONS, duration_s=bench.plan.warm_up_s)
        rate_per_s = (saturation or load.per_s) * SHARE_OF_SATURATION
        orders = {
            "port": running.port,
            "token": stage.token,
            "connections": CONNECTIONS,
            "rate_per_s": rate_per_s,
            "seconds": bench.plan.open_loop_seconds,
            "seed": 2016,
            "walk": dataclasses.asdict(dataclasses.replace(walk, first=middle, end=walk.length)),
        }
        meter = Meter({"server": [running.process.pid], "redis": [stage.redis.pid]})
        found = _generate(stage, orders)
        cpu_s = meter.stop(generator=found["cpu_s"])
    return {
        **found,
        "rate_per_s": rate_per_s,
        "answers_per_s": found["per_s"],
        "cpu_us_per_answer": {name: used / max(1, found["answered"]) * 1e6 for name, used in cpu_s.items()},
        "void": "; ".join(problems(found, bench.plan.open_loop_seconds)) or None,
    }


def problems(found: dict[str, Any], seconds: float) -> list[str]:
    """What makes the latencies void."""
    wrong = []
    if found["failed"] or found["answered"] != found["asked"]:
        wrong.append(f"{found['asked']:,} asked, {found['answered']:,} answered, {found['failed']:,} failed")
    if found["cpu_s"] / seconds > CPU_SHARE_MAX:
        wrong.append(f"the generator used {found['cpu_s'] / seconds:.0%} of a core")
    return wrong


def _generate(stage: Stage, orders: dict[str, Any]) -> dict[str, Any]:
    path = stage.folder / "open-loop.json"
    path.write_text(json.dumps(orders))
    words = [sys.executable, "-m", "benchmarks.open_loop_client", str(path)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, cwd=_ROOT)
    if ended.returncode != 0:
        raise wrk.WrkFailedError(f"the open-loop generator failed: {ended.stderr[-500:]}")
    found: dict[str, Any] = json.loads(ended.stdout)
    return found
