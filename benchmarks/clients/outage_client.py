"""Claims at a steady rate during an outage: how many got a share, were refused as busy, or failed, per second.

``python -m benchmarks.clients.outage_client FILE`` reads its orders (JSON) and prints its results (JSON).
"""

import json
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.clients.open_loop_client import Generator
from benchmarks.rig.figures import percentile
from benchmarks.rig.http_connection import Connection

_BUSY = b'"code":"busy"'


class Recorder(Generator):
    """An answer counts for the second in which its request was due."""

    def __init__(self, orders: dict[str, Any]) -> None:
        super().__init__(orders)
        self._told: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._given_ms: defaultdict[int, list[float]] = defaultdict(list)

    def _answered(self, connection: Connection, right: bool) -> None:
        second = int(connection.due_s - self._began_s)
        told = "given" if right else "busy" if _BUSY in connection.answer else "failed"
        self._told[second][told] += 1
        if right:
            self._given_ms[second].append((time.perf_counter() - connection.due_s) * 1000)
        super()._answered(connection, told != "failed")

    def _found(self, took_s: float, cpu_s: float) -> dict[str, Any]:
        found = super()._found(took_s, cpu_s)
        del found["curve"]
        seconds = [
            {
                "second": second,
                **{name: self._told[second][name] for name in ("given", "busy", "failed")},
                "p99_ms": percentile(sorted(given), 0.99) if (given := self._given_ms[second]) else None,
            }
            for second in sorted(self._told)
        ]
        return {**found, "seconds": seconds}


async def _main(orders: dict[str, Any]) -> None:
    print(json.dumps(await Recorder(orders).play()))


if __name__ == "__main__":
    uvloop.run(_main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
