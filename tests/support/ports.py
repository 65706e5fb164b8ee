"""Loopback ports that stay a test's own from the first line that names them to the last."""

from collections.abc import Iterator
from contextlib import contextmanager

from engine.supervision.ports import held


@contextmanager
def held_port() -> Iterator[int]:
    """A port of 127.0.0.1 that no other process is given during the block, however many tests run beside this one.

    A server may listen on it, stop and listen again (Redis, uvicorn and asyncio set SO_REUSEADDR, as it must). As long
    as none listens, a connection is refused.
    """
    with held("127.0.0.1", 0) as port:
        yield port
