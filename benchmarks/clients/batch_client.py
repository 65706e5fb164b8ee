"""The generator of batched requests, in a separate process: a closed loop over a fixed number of prepared requests.

``python -m benchmarks.clients.batch_client FILE`` reads its orders (JSON) and prints its results (JSON). wrk cannot do
this: its shortest run is a second, and a walk of half a million shares is shorter.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.rig.figures import percentile
from benchmarks.rig.http_connection import Connection, connect
from benchmarks.rig.walks import BatchWalk

_PATIENCE_S = 60.0


class Generator:
    """Each connection sends its next request after an answer, until none is left."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self._orders = orders
        walk = BatchWalk(**orders["walk"])
        self._requests = [_request(walk.body(index), orders["token"]) for index in range(walk.first, walk.end)]
        self._waiting: Iterator[bytes] = iter(self._requests)
        self._done = asyncio.Event()
        self._latencies_ms: list[float] = []
        self._failed, self._over = 0, False

    def _answered(self, connection: Connection, right: bool) -> None:
        now_s = time.perf_counter()
        self._latencies_ms.append((now_s - connection.due_s) * 1000)
        self._failed += not right
        if (request := next(self._waiting, None)) is not None:
            connection.send(now_s, request)
        elif len(self._latencies_ms) == len(self._requests):
            self._done.set()

    def _lost(self) -> None:
        if not self._over:
            self._failed += 1
            self._done.set()

    async def play(self) -> dict[str, Any]:
        """Send everything and wait for the last answer."""
        connections = await connect(self._orders["port"], self._orders["connections"], self._answered, self._lost)
        gc.collect()
        gc.freeze()
        gc.disable()
        cpu_s, began_s = time.process_time(), time.perf_counter()
        for connection, request in zip(connections, self._waiting, strict=False):
            connection.send(began_s, request)
        await asyncio.wait_for(self._done.wait(), _PATIENCE_S)
        self._over = True
        latencies = sorted(self._latencies_ms)
        return {
            "requests": len(latencies),
            "duration_s": time.perf_counter() - began_s,
            "failures": {"answer": self._failed},
            **{f"{name}_ms": percentile(latencies, share) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1))},
            "cpu_s": time.process_time() - cpu_s,
        }


def _request(body: bytes, token: str) -> bytes:
    head = (
        f"POST /v1/claims HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _main(orders: dict[str, Any]) -> None:
    print(json.dumps(await Generator(orders).play()))


if __name__ == "__main__":
    uvloop.run(_main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
