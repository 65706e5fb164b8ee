"""A `hongbao up` whose processes reach their servers over links that can be cut.

``python -m loadtest.chaos.host DATA_DIR WORKERS LINKS``: LINKS is JSON, {"persist/redis": port, ...}.
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


def routes(links: Mapping[str, int]) -> Route:
    """Each process's own links to the servers."""

    def route(name: str, settings: Settings) -> Settings:
        redis, postgres = links[f"{name}/redis"], links[f"{name}/postgres"]
        return settings.model_copy(
            update={
                "redis_url": f"redis://127.0.0.1:{redis}",
                "database_url": f"postgresql://postgres@127.0.0.1:{postgres}/hongbao?sslmode=disable",
            }
        )

    return route


def main(data_dir: Path, workers: int, links: Mapping[str, int]) -> None:
    """Run until a stop signal."""
    for number in (signal.SIGINT, signal.SIGTERM):  # until the supervisor handles them
        signal.signal(number, lambda *_: sys.exit(0))
    logs.configure("up")
    Backoff.max_s = RESTART_S_MAX
    try:
        settings = Settings.load(port=0, data_dir=data_dir, workers=workers)
        asyncio.run(up(settings, os.environ, lambda url: print(f"ready {url}", flush=True), routes(links)))
    except HongbaoError as error:
        print(f"hongbao: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), orjson.loads(sys.argv[3]))
