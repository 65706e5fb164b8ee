"""Runs our own load generators: one process each, with orders as input and results as output."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.rig.load import Load, LoadFailedError
from benchmarks.rig.servers import Started
from benchmarks.rig.shapes import Shape
from benchmarks.rig.stage import Stage
from benchmarks.rig.walks import BatchWalk

_ROOT = Path(__file__).parents[2]
_S_MAX = 180


def run(stage: Stage, server: Started, module: str, walk: Any, **orders: Any) -> dict[str, Any]:  # noqa: ANN401
    """Run one to its end. Raises LoadFailedError."""
    about = {"port": server.port, "token": stage.token, "walk": dataclasses.asdict(walk), "shape": Shape.GATEWAY}
    whole = {**about, **orders}
    path = stage.folder / "orders.json"
    path.write_text(json.dumps(whole), encoding="utf-8")
    words = [sys.executable, "-m", f"benchmarks.clients.{module}", str(path)]
    ended = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=_S_MAX, check=False, cwd=_ROOT)
    if ended.returncode != 0:
        raise LoadFailedError(f"{module} failed: {ended.stderr[-500:]}")
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def batches(stage: Stage, server: Started, walk: BatchWalk, *, connections: int) -> Load:
    """Send all requests of the walk. Raises LoadFailedError."""
    return Load(**run(stage, server, "batch_client", walk, connections=connections))
