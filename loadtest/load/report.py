"""The output of `make load`, from locust's files and the server's own counters."""

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

_COMPLAINTS_MAX = 10
_TOLD_BY_LOG = ("ENDED", "load: ", "Traceback")
_SENTENCE = re.compile(r"(?:^load: | ENDED )(.+)", re.MULTILINE)


def requests_table(report_dir: Path) -> Table:
    """One line per kind of request. Latencies are those of a closed loop of users, in milliseconds."""
    table = Table(title="What the users saw")
    for column in ("request", "answers", "failures", "per second", "p50 ms", "p99 ms"):
        table.add_column(column, justify="left" if column == "request" else "right")
    for row in _rows(report_dir / "eve_stats.csv"):
        table.add_row(
            row["Name"],
            f"{int(row['Request Count']):,}",
            f"{int(row['Failure Count']):,}",
            f"{float(row['Requests/s']):,.0f}",
            row["50%"],
            row["99%"],
        )
    return table


def claims_table(claims: Mapping[str, int]) -> Table:
    """Claims the server answered during the run, by outcome."""
    table = Table(title="Claims by outcome, from /metrics after less before")
    table.add_column("outcome")
    table.add_column("claims", justify="right")
    for outcome, count in sorted(claims.items()):
        table.add_row(outcome, f"{count:,}")
    return table


def cpu_line(locust_s: float, engine_s: float | None) -> str:
    """Whether the test or the engine was busy."""
    known = "" if engine_s is None else f", all processes of the engine with its servers {engine_s:.1f} s"
    return f"CPU: locust {locust_s:.1f} s{known}."


def complaints(report_dir: Path) -> Iterator[str]:
    """Why locust's exit code was not 0: failures by kind, and lines of its log."""
    for row in list(_rows(report_dir / "eve_failures.csv"))[:_COMPLAINTS_MAX]:
        yield f"{row['Occurrences']} x {row['Name']}: {row['Error']}"
    log = _log(report_dir).splitlines()
    yield from [line for line in log if any(word in line for word in _TOLD_BY_LOG)][:_COMPLAINTS_MAX]


def has_answers(report_dir: Path) -> bool:
    """Whether any request was sent."""
    return any(int(row["Request Count"]) for row in _rows(report_dir / "eve_stats.csv"))


def why_nothing(report_dir: Path) -> str:
    """One sentence on why no request was sent."""
    found = _SENTENCE.search(_log(report_dir))
    return found[1] if found else f"Locust ended before anyone asked anything; see {report_dir / 'locust.log'}."


def audit_lines(findings: list[dict[str, Any]]) -> Iterator[str]:
    """The audit's findings in the demo's form."""
    yield "The audit:"
    for finding in findings:
        mark = "ok    " if finding["holds"] else "FAILED"
        yield f"  {mark} {finding['statement']} ({finding['examined']:,} examined)"
        yield from (f"         {problem}" for problem in finding["problems"])


def _rows(path: Path) -> Iterator[dict[str, str]]:
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _log(report_dir: Path) -> str:
    return (report_dir / "locust.log").read_text(encoding="utf-8", errors="replace")
