"""Overload: what is counted as goodput, and which runs are void. The crowd itself is the benchmark's business."""

import time
from typing import Any

import pytest

from benchmarks.clients.overload_client import Probe
from benchmarks.parts.overload import asked_amid, counted, problems
from benchmarks.rig.load import Load

FAILURES = dict.fromkeys(("connect", "read", "write", "status", "timeout"), 0)
PROBE: dict[str, Any] = {
    "asked": 100,
    "answered": 90,
    "refused": 10,
    "failed": 0,
    "latency_ms": {"p50": 40.0, "p99": 80.0},
    "refused_ms": {"p50": 5.0, "p99": 9.0},
}


def load(requests: int, **failures: int) -> Load:
    return Load(
        requests=requests,
        duration_s=2.0,
        failures={**FAILURES, **failures},
        p50_ms=1.0,
        p99_ms=2.0,
        max_ms=3.0,
        cpu_s=1.0,
    )


def test_goodput_is_what_was_accepted_against_the_peak() -> None:
    found = counted(
        [load(50_000), load(70_000)], load(70_000, status=13_000), 28_500.0, PROBE, {"server": 2.0, "other": 0.1}
    )
    assert (found["peak_per_s"], found["answers_per_s"], found["refused_per_s"]) == (30_000, 28_500, 6_500)
    assert found["goodput"] == 0.95
    assert found["cpu_share"] == {"server": 1.0, "other": 0.05}
    assert found["void"] is None


def test_it_is_counted_while_the_probe_asks_and_the_crowd_is_there() -> None:
    crowd = load(10)  # of 2 s
    assert asked_amid(crowd, {"sent_s": (100.5, 101.75)}, 100.0) == (0.5, 1.75)
    assert asked_amid(crowd, {"sent_s": (101.5, 103.0)}, 100.0) == (1.5, 2.0)


def test_a_refusal_voids_the_peak_and_not_the_crowd() -> None:
    assert problems([load(10, status=1)], load(10, status=5), PROBE) == ["at the peak: 1 status errors"]


def test_whatever_else_goes_wrong_voids_the_run() -> None:
    assert problems([load(10)], load(10, read=2), PROBE) == ["2 read errors"]
    (found,) = problems([load(10)], load(10), {**PROBE, "answered": 89})
    assert found == "the probe: 100 asked, 89 answered, 10 refused, 0 failed"
    assert problems([load(10)], load(10), {**PROBE, "failed": 1})
    nobody = {**PROBE, "answered": 0, "refused": 100}
    assert problems([load(10)], load(10), nobody) == ["none of the probe's requests was accepted"]


def test_the_probe_tells_accepted_from_refused() -> None:
    orders = {"walk": {"packets": ["1"], "hands": 1, "first": 0, "end": 1}, "seed": 1, "rate_per_s": 3, "seconds": 1}
    orders |= {"shape": "gateway", "token": "secret"}
    probe = Probe(orders)
    probe._latencies_ms, probe._refused_ms = [3.0, 1.0], [9.0]
    found = probe._found(1.0, 0.1)
    began_s, ended_s = found["sent_s"]
    assert ended_s - began_s == pytest.approx(1.0)
    assert 0 <= time.monotonic() - ended_s < 10
    assert (found["asked"], found["answered"], found["refused"], found["failed"]) == (3, 2, 1, 0)
    assert (found["latency_ms"]["max"], found["refused_ms"]["max"]) == (3.0, 9.0)
