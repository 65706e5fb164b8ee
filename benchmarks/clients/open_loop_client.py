"""The open-loop generator, in a separate process: requests are due at times drawn in advance, whatever the server does.

``python -m benchmarks.clients.open_loop_client FILE`` reads its orders (JSON) and prints its results (JSON). A
request's latency runs from the moment it was due to its complete answer. If no connection is free, the wait counts.
The clock ticks once per millisecond, so up to one millisecond of each latency is the generator's.
"""

import asyncio
import gc
import json
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks.rig.figures import percentile
from benchmarks.rig.http_connection import Connection, connect
from benchmarks.rig.shapes import Shape, heads, request
from benchmarks.rig.walks import Walk

_TICK_S = 0.001
_PATIENCE_S = 10.0


class Generator:
    """Each request is due ``times_s`` after the start."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self._orders = orders
        chance = np.random.default_rng(orders["seed"])
        count = int(orders["rate_per_s"] * orders["seconds"])
        self._times_s = np.cumsum(chance.exponential(1 / orders["rate_per_s"], count)).tolist()
        self._requests = requests(orders, count)
        self._free: deque[Connection] = deque()
        self._next = 0
        self._began_s = 0.0
        self._done = asyncio.Event()
        self._latencies_ms: list[float] = []
        self._failed, self._over = 0, False

    def _answered(self, connection: Connection, right: bool) -> None:
        self._latencies_ms.append((time.perf_counter() - connection.due_s) * 1000)
        self._failed += not right
        self._free.append(connection)
        self._send_due()
        if len(self._latencies_ms) == len(self._times_s):
            self._done.set()

    def _lost(self) -> None:
        self._failed += not self._over

    def _send_due(self) -> None:
        now_s = time.perf_counter() - self._began_s
        while self._free and self._next < len(self._times_s) and self._times_s[self._next] <= now_s:
            due_s = self._began_s + self._times_s[self._next]
            self._free.popleft().send(due_s, self._requests[self._next])
            self._next += 1

    async def play(self) -> dict[str, Any]:
        """Connect, send everything when it is due, wait for the last answer."""
        connections = await connect(self._orders["port"], self._orders["connections"], self._answered, self._lost)
        self._free.extend(connections)
        gc.collect()
        gc.freeze()
        gc.disable()
        cpu_s, self._began_s = time.process_time(), time.perf_counter()
        deadline_s = self._began_s + self._times_s[-1] + _PATIENCE_S
        while not self._done.is_set() and time.perf_counter() < deadline_s:
            self._send_due()
            await asyncio.sleep(_TICK_S)
        took_s = time.perf_counter() - self._began_s
        self._over = True
        return self._found(took_s, time.process_time() - cpu_s)

    def _found(self, took_s: float, cpu_s: float) -> dict[str, Any]:
        latencies = sorted(self._latencies_ms)
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
        curve = [*np.linspace(0, 0.9, 19), *(1 - 10 ** -np.linspace(1, 5, 33))]
        return {
            "asked": len(self._times_s),
            "answered": len(latencies),
            "failed": self._failed,
            "per_s": len(latencies) / took_s,
            "latency_ms": {name: percentile(latencies, share) for name, share in shares.items()} if latencies else {},
            "curve": [(float(share), percentile(latencies, float(share))) for share in curve] if latencies else [],
            "cpu_s": cpu_s,
        }


def requests(orders: dict[str, Any], count: int) -> list[bytes]:
    """All requests of the walk, made before the first is due; the walk begins again at its end."""
    walk, pool = Walk(**orders["walk"]), heads(Shape(orders["shape"]), orders["token"])
    taps = (walk.first + number % (walk.end - walk.first) for number in range(count))
    return [request(*walk.tap(tap), pool[tap % len(pool)]) for tap in taps]


async def _main(orders: dict[str, Any]) -> None:
    print(json.dumps(await Generator(orders).play()))


if __name__ == "__main__":
    uvloop.run(_main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
