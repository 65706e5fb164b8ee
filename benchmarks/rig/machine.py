"""The facts that figures depend on: the machine, the kernel, and the versions of everything under test."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from benchmarks.peers.availability import fastify_folder
from benchmarks.rig import redis_server

_PACKAGES = (
    "uvloop",
    "hiredis",
    "redis",
    "asyncpg",
    "starlette",
    "uvicorn",
    "httptools",
    "orjson",
    "msgspec",
)


def facts() -> dict[str, Any]:
    """All known facts, in the form for the JSON."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "commit": _first_line("git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Program or package -> version, if installed."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES if _has(name)}
    found["redis-server"] = _number(redis_server.version())
    for name, words in (("go", ("go", "version")), ("node", ("node", "--version")), ("nginx", ("nginx", "-v"))):
        if shutil.which(name):
            found[name] = _number(_first_line(*words))
    for name in ("fastify", "ioredis"):
        path = fastify_folder() / "node_modules" / name / "package.json"
        if path.exists():
            found[name] = path.read_text(encoding="utf-8").partition('"version": "')[2].partition('"')[0]
    found["wrk"] = _number(_first_line("wrk", "--version")) if shutil.which("wrk") else "none"
    return found


def _number(line: str) -> str:
    """The version in a program's own output."""
    found = re.search(r"\d+(\.\d+)+", line)
    return found[0] if found else line


def _has(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _first_line(*words: str) -> str:
    ended = subprocess.run(words, capture_output=True, encoding="utf-8", check=False)
    return ((ended.stdout or ended.stderr).strip().splitlines() or [""])[0]
