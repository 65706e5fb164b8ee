"""The outage: what voids it, and how its seconds become rows. The outage itself is the benchmark's business."""

from typing import Any

from benchmarks.parts.outage import AFTER_S, BEFORE_S, STOPPED_S, problems
from benchmarks.report.tables import sections


def found(**changed: int) -> dict[str, Any]:
    seconds: list[dict[str, Any]] = [{"second": 0, "given": 90, "busy": 0, "failed": 0, "p99_ms": 3.0}]
    seconds += [{"second": 1, "given": 10, "busy": 50, "failed": 0, "p99_ms": None}]
    return {"asked": 150, "answered": 150, "failed": 0, "seconds": seconds, **changed}


def test_a_share_that_was_told_of_must_be_there() -> None:
    assert problems(found(), 100) == []
    assert problems(found(), 99) == ["100 answers had a share, 99 shares were given"]


def test_whatever_else_goes_wrong_voids_the_run() -> None:
    assert problems(found(failed=2), 100) == ["2 of 150 failed"]
    assert problems(found(answered=149), 100) == ["1 of 150 were not answered"]
    never = found()
    never["seconds"] = [{"second": 0, "given": 100, "busy": 0, "failed": 0, "p99_ms": 3.0}]
    assert problems(never, 100) == ["the bound was not reached"]


def test_the_table_tells_before_during_and_after() -> None:
    whole = BEFORE_S + STOPPED_S + AFTER_S
    seconds = [
        {"second": at, "given": 10 if at % 2 else 0, "busy": 0 if at % 2 else 4, "failed": 0, "p99_ms": float(at)}
        for at in range(whole)
    ]
    backlog = [(float(at), 100 * at) for at in range(whole)]
    run = {"workload": "outage", "server": "hongbao", "round": 1, "connections": 1, "void": None}
    (section,) = sections({"runs": [{**run, "seconds": seconds, "backlog": backlog}]})
    rows = [line for line in section.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) == 5
    first = [cell.strip() for cell in rows[0].strip("|").split("|")]
    assert first == [f"0 to {BEFORE_S}", "7", "5", "2", f"{BEFORE_S - 1}.0", f"{100 * (BEFORE_S - 1):,}"]
