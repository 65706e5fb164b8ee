"""The report: a JSON file with all raw results, and Markdown that is made only from it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import goals, tables
from benchmarks.report.goals import Row
from benchmarks.report.selection import SERVERS
from benchmarks.report.tables import text
from benchmarks.rig.runs import Run

RESULTS = "results.json"
REPORT = "report.md"
OTHER_CPU_SHARE_MAX = 0.2
"""If other programs use more CPU than this (of one core) during a run, the report says so."""


def write(folder: Path, results: Mapping[str, Any], pictures: Sequence[tuple[str, str]]) -> None:
    """Write both files. ``pictures``: (file name, caption) of those that were drawn."""
    # One line per run: it is readable in a diff, and a tenth of the size of one line per number.
    runs = ",\n".join(json.dumps(run, ensure_ascii=False) for run in results["runs"])
    others = json.dumps(
        {name: value for name, value in results.items() if name != "runs"}, indent=1, ensure_ascii=False
    )
    (folder / RESULTS).write_text(f'{others.removesuffix("}").rstrip()},\n "runs": [\n{runs}\n]}}\n', encoding="utf-8")
    (folder / REPORT).write_text(markdown(results, pictures), encoding="utf-8")


def markdown(results: Mapping[str, Any], pictures: Sequence[tuple[str, str]] = ()) -> str:
    """The report as text."""
    parts = [
        _head(results),
        "## Goals\n\n" + goal_table(results),
        *(f"![{caption}]({name})" for name, caption in pictures),
        *tables.sections(results),
        "## Method\n\n" + _METHOD.strip(),
        _void(results["runs"]),
    ]
    return "\n\n".join(parts) + "\n"


GOAL_HEAD = ("goal", "figure", "ratio", "spread", "met")


def goal_table(results: Mapping[str, Any]) -> str:
    """The goals as Markdown."""
    return tables.table(GOAL_HEAD, goal_rows(results))


def goal_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """Goal, figure, ratio, spread, met or not."""
    words = {True: "yes", False: "**no**", None: "not measured"}
    return [
        [row.goal, _figure(row), text(row.ratio, ".2f", spread=False), _spread(row), words[row.met]]
        for row in goals.rows(results)
    ]


def _figure(row: Row) -> str:
    return "–" if row.figure is None else f"{row.figure.median:{row.form}} {row.unit}"


def _spread(row: Row) -> str:
    """The spread of the ratio or, without one, of the figure."""
    found, form = (row.figure, row.form) if row.ratio is None else (row.ratio, ".2f")
    if found is None or found.rounds == 1:
        return "–"
    return f"{found.least:{form}}–{found.most:{form}}, {found.rounds} rounds"


def _head(results: Mapping[str, Any]) -> str:
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    text = (
        f"# Benchmark of {results['date']}\n\n{machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB; {machine['system']}; Python {machine['python']}; commit "
        f"{machine['commit']}.\n{versions}.\n\nPlan `{results['plan']['name']}`, {results['plan']['rounds']} rounds, "
        f"{results['took_s'] / 60:.0f} minutes. Made by `python -m benchmarks`; all numbers: [{RESULTS}]({RESULTS})."
    )
    for name, why in results.get("skipped", {}).items():
        text += f"\n\n**Skipped: {SERVERS[name]}**, because {why}."
    for name, why in results.get("failed", {}).items():
        text += f"\n\n**Part {name} ended early:** {why}."
    return text


def _void(runs: Sequence[Run]) -> str:
    void = [f"- {run['workload']}, round {run['round']}, {run['server']}: {run['void']}" for run in runs if run["void"]]
    others = [float(run["cpu_share"]["other"]) for run in runs if run["void"] is None and "cpu_share" in run]
    busy = sum(share > OTHER_CPU_SHARE_MAX for share in others)
    text = "## Void runs\n\n" + ("\n".join(void) if void else "None.")
    if others:
        text += (
            f"\n\nWhile runs were measured, everything else on the machine used at most {max(others):.0%} of a core; "
            f"more than {OTHER_CPU_SHARE_MAX:.0%} in {busy} of {len(others)} runs."
        )
    return text


_METHOD = """
- Everything, including the load generator, is on one machine, over TCP loopback. Nothing is pinned to a core.
- Each server has one process. Go has its default GOMAXPROCS (a thread per core), nginx one worker. Redis:
  `redis-server` from PATH, no snapshots, no append-only file in A to D, `everysec` in E. Postgres has its defaults for
  durability.
- Every run has a fresh Redis with the same snapshot of packets (made by the engine itself), a fresh copy of the ledger,
  and a fresh server. The server must first answer a claim, its repeat and a sold-out packet correctly. Then comes a
  warm-up on other packets, then the measurement.
- Peers call one script per claim on the same keys. A repeat gets its amount. A winner's share is popped, written with
  its time, counted, and added to the stream. Peers check no token and write no ledger. Our server checks its backend's
  token and everything else that it always checks.
- Go with group commit calls the engine's own script instead, with what waits when a call ends: two calls in progress
  per lane, at most as many claims in each as our server takes, no timer. It checks no token. Its events are the
  engine's, so a persister takes its claims into the ledger.
- Requests are as a gateway sends them on: of six kinds of clients in turn by chance, each with its own headers, order
  and case. Each has its own ids of a trace and addresses; the first come again after 10,007 requests. All are made
  before the run. With bare headers there are four, always the same.
- In A to D no persister runs during the measurement, because most peers have none. After each of our runs, and of those
  of Go with group commit, a persister applies everything, and the whole audit runs. After another peer's run, claims,
  shares and stream are compared share by share. A run that fails is void.
- With everything on, persister and sweeper run during the measurement, and Redis has its append-only file. Only
  servers take part whose events the persister understands.
- Servers take turns in each round, and a different one starts each time. Figures are medians, with the minimum and the
  maximum in brackets. Ratios are taken within a round.
- A: packets of 100 shares, their 100 users one after another, packet after packet. B: 16 packets at a time.
- CPU time is the kernel's account of each process tree. wrk runs one thread. D and the open loop have their own
  generators, one process each. A run is void if the generator used more than 90 % of a core or saw any error. The
  generator's CPU time is shown, because the servers cannot use it.
- Claims are counted in Redis, not in the answers. In B the repeats follow from the walk (each winner taps twice), and
  the other answers are refusals.
"""
