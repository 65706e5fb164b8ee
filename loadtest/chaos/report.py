"""A run's output: a table on a terminal, plain lines elsewhere."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loadtest.chaos.figures import Figures
from loadtest.chaos.findings import Findings
from loadtest.chaos.plan import Plan
from loadtest.chaos.schedule import Fault
from loadtest.chaos.serving import OTHERS
from loadtest.chaos.story import Ending

_TOLD_MAX = 20


def show(
    console: Console, plan: Plan, figures: Figures, *, findings: Findings, ending: Ending, wrong: int, took_s: float
) -> None:
    """Print the short report. ``wrong``: the number of problems."""
    rows = [*_rows(plan, figures, findings, ending), ("wrong", f"{wrong:,}"), ("took", f"{took_s:.0f} s")]
    if not console.is_terminal:
        for name, value in rows:
            _line(console, f"{name}: {value}")
        return
    table = Table(title="Chaos", show_header=False)
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)


def show_failure(
    console: Console, plan: Plan, problems: Sequence[str], *, more: int, faults: Sequence[Fault], kept: Path
) -> None:
    """Print the problems, and everything that is needed to investigate them."""
    for problem in problems[:_TOLD_MAX]:
        _line(console, f"FAILED {problem}")
    if len(problems) + more > _TOLD_MAX:
        _line(console, f"FAILED ... and {len(problems) + more - _TOLD_MAX} more")
    _line(console, f"Again with: {plan.command()}")
    _line(console, "The schedule:")
    for number, fault in enumerate(faults, start=1):
        _line(console, f"  {number:>4} {fault.line()}")
    _line(console, f"History, schedule and logs are in {kept}")


def _rows(plan: Plan, figures: Figures, findings: Findings, ending: Ending) -> Iterator[tuple[str, str]]:
    if plan.nodes:
        yield "seed, masters, faults, acknowledged in", f"{plan.seed}, {plan.nodes}, {plan.faults}, {plan.ack}"
        yield from _struck(figures, findings)
    else:
        yield "seed, kills, acknowledged in", f"{plan.seed}, {plan.kills}, {plan.ack}"
    yield "killed (SIGKILL)", _counted(figures.kills)
    yield "other faults", _counted(figures.others)
    yield "requests", f"{figures.requests:,} in {figures.lasted_s:.0f} s"
    yield "claims answered", _counted(figures.outcomes)
    yield "taps in rains answered", _counted(figures.taps)
    yield "errands done", _counted(figures.errands)
    yield "refused, asked again", _counted(figures.refusals)
    yield "acknowledged claims checked", f"{findings.acknowledged:,}"
    yield "lost, within the mode's promise", f"{len(findings.lost):,}"
    if ending.books is not None:
        yield "ledger", f"{len(ending.books.packets):,} packets, {len(ending.books.claims):,} claims"
    yield "ledger behind at most", f"{ending.behind_max:,} changes"
    yield "longest time without an answered claim", f"{figures.outage_s:.1f} s, from {figures.outage_from_s:.1f} s on"
    if ending.recoveries_s:
        yield "serving again after lost data", ", ".join(f"{seconds:.1f} s" for seconds in ending.recoveries_s)
    yield "whole again after the last fault", f"{ending.back_s:.1f} s"
    held = sum(bool(finding["holds"]) for finding in ending.audit)
    yield "audit", f"{held} of {len(ending.audit)} invariants hold"


def _struck(figures: Figures, findings: Findings) -> Iterator[tuple[str, str]]:
    """A line per kind of fault of a cluster, and one for the lanes that the faults did not strike."""
    for kind, found in sorted(figures.pauses.items()):
        serving = f"a lane's longest time without a share: {found.line()}"
        if kind == OTHERS:
            yield OTHERS, serving
            continue
        others = f"another node held the lane afterwards {found.replaced} times"
        others += f", ordered again {found.again} times" if found.again else ""
        yield kind, f"{found.faults} times, {others}, lost {findings.lost_by[kind]:,}; {serving}"


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {times:,}" for name, times in sorted(counter.items())) or "none"


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
