"""A few clients in a crowd: an open loop that obeys Retry-After and counts accepted and refused requests separately.

``python -m benchmarks.clients.overload_client FILE`` reads its orders (JSON) and prints its results (JSON).
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.clients.open_loop_client import Generator
from benchmarks.rig.figures import percentile
from benchmarks.rig.http_connection import Connection

RETRY_AFTER_S = 1.0
_SHARES = {"p50": 0.5, "p99": 0.99, "max": 1.0}


class Probe(Generator):
    """``latency_ms``: of accepted requests. ``refused_ms``: of refused ones.

    ``sent_s``: from when to when it sent, by the machine's monotonic clock, which all processes share.
    """

    def __init__(self, orders: dict[str, Any]) -> None:
        super().__init__(orders)
        self._refused_ms: list[float] = []

    def _answered(self, connection: Connection, right: bool) -> None:
        latency_ms = (time.perf_counter() - connection.due_s) * 1000
        if right:
            self._latencies_ms.append(latency_ms)
            self._free.append(connection)
        else:
            self._refused_ms.append(latency_ms)
            asyncio.get_running_loop().call_later(RETRY_AFTER_S, self._free.append, connection)
        self._send_due()
        if len(self._latencies_ms) + len(self._refused_ms) == len(self._times_s):
            self._done.set()

    def _found(self, took_s: float, cpu_s: float) -> dict[str, Any]:
        refused, ended_s = sorted(self._refused_ms), time.monotonic()
        return {
            **super()._found(took_s, cpu_s),
            "sent_s": (ended_s - took_s, ended_s),
            "refused": len(refused),
            "refused_ms": {name: percentile(refused, share) for name, share in _SHARES.items()} if refused else {},
        }


async def _main(orders: dict[str, Any]) -> None:
    print(json.dumps(await Probe(orders).play()))


if __name__ == "__main__":
    uvloop.run(_main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
