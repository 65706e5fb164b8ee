"""One run of wrk, the closed-loop load generator: its counts and its own CPU time."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks.rig.load import Load, LoadFailedError

THREADS = 1
# At the end of each script. wrk calls it once, when it has ended.
_SUMMARY = """
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('{"requests":%d,"duration_us":%d,"bytes":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,',
    summary.requests, summary.duration, summary.bytes, errors.connect, errors.read, errors.write, errors.status,
    errors.timeout))
  io.write(string.format('"p50_us":%d,"p99_us":%d,"max_us":%d}\\n',
    latency:percentile(50), latency:percentile(99), latency.max))
end
"""


def found() -> bool:
    """Whether wrk is on PATH."""
    return shutil.which("wrk") is not None


def parse(output: str, cpu_s: float) -> Load:
    """Read the line of JSON that ``done`` printed among wrk's own lines. Raises LoadFailedError."""
    lines = [line for line in output.splitlines() if line.startswith('{"requests"')]
    if len(lines) != 1:
        raise LoadFailedError(f"wrk printed no summary: {output[-500:]!r}")
    summary = json.loads(lines[0])
    return Load(
        requests=summary["requests"],
        duration_s=summary["duration_us"] / 1e6,
        failures={kind: summary[kind] for kind in ("connect", "read", "write", "status", "timeout")},
        p50_ms=summary["p50_us"] / 1e3,
        p99_ms=summary["p99_us"] / 1e3,
        max_ms=summary["max_us"] / 1e3,
        cpu_s=cpu_s,
    )


def run(base_url: str, script: str, *, connections: int, duration_s: int, patience_s: int = 2) -> Load:
    """Load ``base_url`` for whole seconds, with one request in flight per connection. Raises LoadFailedError.

    A request without an answer within ``patience_s`` counts as a timeout.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "walk.lua"
        path.write_text(script + _SUMMARY, encoding="utf-8")
        words = ["wrk", f"-t{THREADS}", f"-c{connections}", f"-d{duration_s}s", f"--timeout={patience_s}s"]
        words += ["-s", str(path), base_url]
        with (Path(folder) / "out").open("w+", encoding="utf-8") as output:
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
        raise LoadFailedError(f"wrk ended with {process.returncode}: {text[-500:]!r}")
    return parse(text, usage.ru_utime + usage.ru_stime)
