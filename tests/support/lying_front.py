"""A front that is not ours, for the load test's tests: answers as the API does, but can be told to lie or be busy."""

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar


class Front(BaseHTTPRequestHandler):
    """``manners``: "honest", "two amounts" (each claim of a user is told another), "busy" (every other claim)."""

    protocol_version = "HTTP/1.1"
    manners: ClassVar[str]
    numbers: ClassVar["itertools.count[int]"]
    told: ClassVar[dict[tuple[str, str], int]]
    terms: ClassVar[dict[str, dict[str, Any]]]

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._answer(200, b"")
        elif self.path.endswith("/claims"):
            self._answer(200, {"claims": [], "next": None})
        elif self.path.startswith("/v1/packets/"):
            packet_id = self.path.split("/")[3]
            terms = self.terms[packet_id]
            rest = {"claimed_count": 0, "claimed_fen": 0, "remaining_count": terms["count"]}
            self._answer(200, {**terms, **rest, "packet_id": packet_id, "remaining_fen": terms["total_fen"]})
        else:
            self._answer(200, {"status": "ready"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if not self.path.endswith("/claims"):
            packet_id = self.headers["Idempotency-Key"]
            self.terms[packet_id] = json.loads(body)
            self._answer(201, {"packet_id": packet_id})
            return
        number = next(self.numbers)
        if self.manners == "busy" and number % 2 == 0:  # the first, too: on a busy machine there may be few
            self._answer(503, {"code": "busy"}, {"Retry-After": "0"})
            return
        packet_id, user_id = self.path.split("/")[3], self.headers["X-User-Id"]
        repeated = (packet_id, user_id) in self.told
        amount_fen = self.told.setdefault((packet_id, user_id), number + 1)
        if self.manners == "two amounts":
            amount_fen = number + 1
        outcome = "already_claimed" if repeated else "claimed"
        self._answer(200, {"outcome": outcome, "amount_fen": amount_fen, "packet_id": packet_id, "user_id": user_id})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._answer(200, {"kind": "merchant"})

    def _answer(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are no news."""


@contextmanager
def front(manners: str) -> Iterator[str]:
    """Run one; returns its address."""
    state = {"manners": manners, "numbers": itertools.count(), "told": {}, "terms": {}}
    handler = type("OneFront", (Front,), state)
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
