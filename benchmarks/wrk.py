"""wrk, the closed-loop load generator: run once, its counts and its own CPU time."""

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

CPU_SHARE_MAX = 0.9
"""wrk runs one thread; past this share of a core it may be what limits the figure, and the figure is void."""
THREADS = 1


class WrkFailedError(Exception):
    """wrk did not run, or printed what cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One run of wrk. Latencies are those of a closed loop: raw material, not shown as anyone's latency."""

    requests: int
    duration_s: float
    bytes: int
    failures: dict[str, int]
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_s: float

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return self.requests / self.duration_s

    @property
    def cpu_share(self) -> float:
        """How much of one core wrk itself used."""
        return self.cpu_s / self.duration_s

    def problems(self) -> list[str]:
        """What makes a figure from this run void."""
        found = [f"wrk counted {count} {kind} errors" for kind, count in self.failures.items() if count]
        if self.cpu_share > CPU_SHARE_MAX:
            found.append(f"wrk used {self.cpu_share:.0%} of a core, more than {CPU_SHARE_MAX:.0%}")
        if self.requests == 0:
            found.append("nothing was answered")
        return found


def found() -> bool:
    """Whether wrk is on PATH."""
    return shutil.which("wrk") is not None


def parse(output: str, cpu_s: float) -> Load:
    """Read the line of JSON that the script's ``done`` printed among wrk's own lines. Raises WrkFailedError."""
    lines = [line for line in output.splitlines() if line.startswith('{"requests"')]
    if len(lines) != 1:
        raise WrkFailedError(f"wrk printed no summary: {output[-500:]!r}")
    summary = json.loads(lines[0])
    return Load(
        requests=summary["requests"],
        duration_s=summary["duration_us"] / 1e6,
        bytes=summary["bytes"],
        failures={kind: summary[kind] for kind in ("connect", "read", "write", "status", "timeout")},
        p50_ms=summary["p50_us"] / 1e3,
        p99_ms=summary["p99_us"] / 1e3,
        max_ms=summary["max_us"] / 1e3,
        cpu_s=cpu_s,
    )


def run(base_url: str, script: str, *, connections: int, duration_s: int) -> Load:
    """Load ``base_url`` for whole seconds, one request in flight a connection. Raises WrkFailedError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "walk.lua"
        path.write_text(script)
        words = ["wrk", f"-t{THREADS}", f"-c{connections}", f"-d{duration_s}s", "-s", str(path), base_url]
        with (Path(folder) / "out").open("w+") as output:
            process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                process.wait()
                raise
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            text = output.read()
    if process.returncode != 0:
        raise WrkFailedError(f"wrk ended with {process.returncode}: {text[-500:]!r}")
    return parse(text, usage.ru_utime + usage.ru_stime)
