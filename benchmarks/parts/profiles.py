"""Where the time goes: ``perf`` on our server and its Redis. It slows them, so only fractions are reported."""

import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.parts.open_loop import SHARE_OF_SATURATION
from benchmarks.rig import generators, wrk
from benchmarks.rig.bench import Bench
from benchmarks.rig.runs import serving
from benchmarks.rig.servers import OURS, Started
from benchmarks.rig.shapes import Shape
from benchmarks.rig.walks import Walk, claim_lua
from benchmarks.rig.world import World

SAMPLES_PER_S = 1_999
SYMBOLS_TOLD = 12
NO_NAME = "without a name"
_CONNECTIONS = 256
_GUESS_PER_S = 20_000
_BEGIN_S = 0.5  # the warm-up, which is not recorded


def profiles(bench: Bench) -> None:
    """Profile the workloads with one claim per request: A, also at half load, B and C."""
    if not bench.plan.profiled:
        return
    if shutil.which("perf") is None:
        bench.others["profiles"] = {"missing": "perf is not on PATH"}
        return
    hundreds = bench.world("hundreds", packets=bench.plan.packets_of_100, shares=100)
    tens = bench.world("tens", packets=bench.plan.packets_of_10, shares=10)
    hot = bench.world("hot", packets=1, shares=bench.plan.hot_shares)
    all_winners = Walk(packets=hundreds.packets, hands=100)
    found = [
        *_profiled(bench, "A", hundreds, _saturating(bench, all_winners)),
        *_profiled(bench, "A at half load", hundreds, _at_half(bench, all_winners)),
        *_profiled(bench, "B", tens, _saturating(bench, Walk(packets=tens.packets, hands=100, taps=2, at_once=16))),
        *_profiled(bench, "C", hot, _saturating(bench, Walk(packets=hot.packets, hands=bench.plan.hot_shares))),
    ]
    bench.others["profiles"] = {"of": found}


Load = Callable[[Started], object]
"""Loads a server for as long as it is recorded, and a second before."""


def _saturating(bench: Bench, walk: Walk) -> Load:
    script = claim_lua(_whole(walk), bench.stage.token)
    seconds = bench.plan.seconds + 1
    return lambda server: wrk.run(server.base_url, script, connections=_CONNECTIONS, duration_s=seconds)


def _at_half(bench: Bench, walk: Walk) -> Load:
    """As in the open loop: at half of what A reached, or of a guess if A was not measured."""
    rate_per_s = (bench.median("A", OURS.name, _CONNECTIONS, "answers_per_s") or _GUESS_PER_S) * SHARE_OF_SATURATION
    orders = {"connections": _CONNECTIONS, "rate_per_s": rate_per_s, "seconds": bench.plan.seconds + 1, "seed": 2016}
    return lambda server: generators.run(
        bench.stage, server, "open_loop_client", _whole(walk), shape=Shape.GATEWAY, **orders
    )


def _profiled(bench: Bench, workload: str, world: World, load: Load) -> Iterator[dict[str, Any]]:
    stage, seconds = bench.stage, bench.plan.seconds
    try:
        with serving(stage, world, OURS) as (running, _):
            watched = {"server": running.process.pid, "redis": stage.redis.pid}
            files = {name: stage.folder / f"{workload.replace(' ', '-')}-{name}.perf" for name in watched}
            recording = [_record(pid, files[name], seconds) for name, pid in watched.items()]
            load(running)
            for process in recording:
                process.wait(timeout=30)
    finally:
        stage.redis.stop()
    for name, path in files.items():
        samples = parse(_reported(path))
        bench.say(f"profile of {workload}, {name}: {len(samples)} symbols")
        yield {"workload": workload, "process": name, **summary(samples)}


def _whole(walk: Walk) -> Walk:
    return Walk(packets=walk.packets, hands=walk.hands, taps=walk.taps, at_once=walk.at_once, first=0, end=walk.length)


def _record(pid: int, path: Path, seconds: int) -> subprocess.Popen[bytes]:
    words = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(SAMPLES_PER_S), "-p", str(pid), "-o", str(path)]
    delayed = f"sleep {_BEGIN_S}; exec {' '.join(words)} -- sleep {seconds}"
    quiet = subprocess.DEVNULL
    return subprocess.Popen(["sh", "-c", delayed], stdin=quiet, stdout=quiet, stderr=quiet)


def _reported(path: Path) -> str:
    words = ["perf", "report", "--stdio", "--sort", "dso,symbol", "--field-separator", ";", "-i", str(path)]
    return subprocess.run(words, capture_output=True, encoding="utf-8", timeout=60, check=False).stdout


def parse(report: str) -> list[tuple[float, str, str]]:
    """(share of the samples, library, symbol) of each line of ``perf report``."""
    samples = []
    for line in report.splitlines():
        parts = [part.strip() for part in line.split(";")]
        if len(parts) >= 3 and parts[0].endswith("%"):
            symbol = parts[2].partition("] ")[2]
            symbol = f"{NO_NAME} in {parts[1]}" if symbol.startswith("0x") else symbol
            samples.append((float(parts[0][:-1]) / 100, parts[1], symbol))
    return samples


def summary(samples: Sequence[tuple[float, str, str]]) -> dict[str, Any]:
    """The fractions by library, and the largest symbols. Unnamed symbols count together per library."""
    libraries, symbols = Counter[str](), Counter[tuple[str, str]]()
    for share, library, symbol in samples:
        libraries[library] += share  # type: ignore[assignment]
        symbols[library, symbol] += share  # type: ignore[assignment]
    return {
        "libraries": dict(libraries.most_common(6)),
        "symbols": [[library, symbol, share] for (library, symbol), share in symbols.most_common(SYMBOLS_TOLD)],
    }
