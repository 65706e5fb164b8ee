"""A `hongbao up` whose processes reach their servers over links that can be cut.

``python -m loadtest.chaos.host DATA_DIR WORKERS NODES LINKS``: LINKS is JSON, {"persist/redis": port, ...}. NODES is
the number of masters of a Redis Cluster with a replica each, or 0 for a single Redis.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import orjson

from engine.errors import HongbaoError
from engine.observability import logs
from engine.running.up import Route, up
from engine.settings import Settings
from engine.supervision.backoff import Backoff

RESTART_S_MAX = 0.5
"""Otherwise a process that is killed hundreds of times would soon be away for ten seconds each time."""
RESTART_S_CLUSTER = 3.0
"""A killed node of a cluster stays away for three node timeouts, so that its replica takes over."""
_CLUSTER_OPTIONS = {"enable-debug-command": "local"}
"""A node is cut off from the others by a DEBUG command."""


def routes(links: Mapping[str, int]) -> Route:
    """Each process's own links to the servers."""

    def route(name: str, settings: Settings) -> Settings:
        postgres = links[f"{name}/postgres"]
        update = {"database_url": f"postgresql://postgres@127.0.0.1:{postgres}/hongbao?sslmode=disable"}
        # A cluster's nodes name each other's addresses, so a client would leave the proxy after its first question.
        if (redis := links.get(f"{name}/redis")) is not None:
            update["redis_url"] = f"redis://127.0.0.1:{redis}"
        return settings.model_copy(update=update)

    return route


def main(data_dir: Path, workers: int, nodes: int, links: Mapping[str, int]) -> None:
    """Run until a stop signal."""
    for number in (signal.SIGINT, signal.SIGTERM):  # until the supervisor handles them
        signal.signal(number, lambda *_: sys.exit(0))
    logs.configure("up")
    Backoff.max_s = RESTART_S_MAX
    if nodes:
        Backoff.first_s = Backoff.max_s = RESTART_S_CLUSTER
    try:
        settings = Settings.load(port=0, data_dir=data_dir, workers=workers)
        running = up(
            settings,
            os.environ,
            lambda url: print(f"ready {url}", flush=True),
            routes(links),
            redis_nodes=nodes or None,
            replicas=1 if nodes else None,
            redis_options=_CLUSTER_OPTIONS if nodes else None,
        )
        asyncio.run(running)
    except HongbaoError as error:
        print(f"hongbao: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), orjson.loads(sys.argv[4]))
