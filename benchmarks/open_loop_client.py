"""The open-loop generator, a process of its own: requests are due at times drawn beforehand, whatever the server does.

``python -m benchmarks.open_loop_client FILE`` reads its orders (JSON) and prints what it found (JSON). A request's
latency runs from the moment it was due to its whole answer; one that finds no free connection waits, and its wait
counts. The clock ticks once a millisecond, so up to one millisecond of each latency is the generator's own.
"""

import asyncio
import gc
import json
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, cast

import numpy as np
import uvloop

from benchmarks.figures import percentile
from benchmarks.walks import Walk

_TICK_S = 0.001
_PATIENCE_S = 10.0


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request in flight."""

    def __init__(self, generator: "Generator") -> None:
        self._generator = generator
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._due_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It can be used from now on."""
        self._transport = cast("asyncio.Transport", transport)

    def send(self, due_s: float, request: bytes) -> None:
        """Send one request."""
        assert self._transport is not None
        self._due_s, self._received = due_s, b""
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Take a piece of the answer; the whole answer frees the connection."""
        self._received += data
        if is_whole(self._received):
            self._generator.answered(self, self._due_s, self._received.startswith(b"HTTP/1.1 200"))

    def connection_lost(self, error: Exception | None) -> None:
        """A server that hangs up is a failure."""
        self._generator.lost += not self._generator.over


class Generator:
    """``times_s`` after its start each request is due."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self._orders = orders
        self._walk = Walk(**orders["walk"])
        chance = np.random.default_rng(orders["seed"])
        count = int(orders["rate_per_s"] * orders["seconds"])
        self._times_s = np.cumsum(chance.exponential(1 / orders["rate_per_s"], count)).tolist()
        self._free: deque[Connection] = deque()
        self._next = 0
        self._began_s = 0.0
        self._done = asyncio.Event()
        self.latencies_ms: list[float] = []
        self.failed, self.lost, self.over = 0, 0, False

    def answered(self, connection: Connection, due_s: float, right: bool) -> None:
        """Note one latency and let the connection go on."""
        self.latencies_ms.append((time.perf_counter() - due_s) * 1000)
        self.failed += not right
        self._free.append(connection)
        self._send_due()
        if len(self.latencies_ms) == len(self._times_s):
            self._done.set()

    def _send_due(self) -> None:
        now_s = time.perf_counter() - self._began_s
        while self._free and self._next < len(self._times_s) and self._times_s[self._next] <= now_s:
            due_s = self._began_s + self._times_s[self._next]
            self._free.popleft().send(due_s, self._request(self._next))
            self._next += 1

    def _request(self, number: int) -> bytes:
        packet_id, user_id = self._walk.tap(self._walk.first + number % (self._walk.end - self._walk.first))
        return (
            f"POST /v1/packets/{packet_id}/claims HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {self._orders['token']}\r\nX-User-Id: {user_id}\r\nContent-Length: 0\r\n\r\n"
        ).encode()

    async def play(self) -> dict[str, Any]:
        """Connect, send everything when it is due, wait for the last answer."""
        loop = asyncio.get_running_loop()
        for _ in range(self._orders["connections"]):
            _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._orders["port"])
            self._free.append(connection)
        gc.collect()
        gc.freeze()
        gc.disable()
        self._began_s = time.perf_counter()
        deadline_s = self._began_s + self._times_s[-1] + _PATIENCE_S
        while not self._done.is_set() and time.perf_counter() < deadline_s:
            self._send_due()
            await asyncio.sleep(_TICK_S)
        took_s = time.perf_counter() - self._began_s
        self.over = True
        return self._found(took_s)

    def _found(self, took_s: float) -> dict[str, Any]:
        latencies = sorted(self.latencies_ms)
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
        curve = [*np.linspace(0, 0.9, 19), *(1 - 10 ** -np.linspace(1, 5, 33))]
        return {
            "asked": len(self._times_s),
            "answered": len(latencies),
            "failed": self.failed + self.lost,
            "per_s": len(latencies) / took_s,
            "latency_ms": {name: percentile(latencies, share) for name, share in shares.items()} if latencies else {},
            "curve": [(float(share), percentile(latencies, float(share))) for share in curve] if latencies else [],
            "cpu_s": time.process_time(),
        }


def is_whole(received: bytes) -> bool:
    """Whether an answer is complete: its headers, and as much body as they say (or the last chunk)."""
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return False
    lower = head.lower()
    place = lower.find(b"content-length:")
    if place < 0:
        return body.endswith(b"0\r\n\r\n")
    return len(body) >= int(lower[place + 15 :].partition(b"\r\n")[0])


async def _main(orders: dict[str, Any]) -> None:
    print(json.dumps(await Generator(orders).play()))


if __name__ == "__main__":
    uvloop.run(_main(json.loads(Path(sys.argv[1]).read_text())))
