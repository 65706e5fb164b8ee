"""The report: a JSON file of everything raw, and Markdown made from nothing else."""

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
"""More CPU than this (of one core) used by others during a run is worth a word."""


def write(folder: Path, results: Mapping[str, Any], pictures: Sequence[tuple[str, str]]) -> None:
    """Write both files. ``pictures``: (file name, caption) of those that were drawn."""
    # One line a run: readable as a difference, and a tenth of the size of one line a number.
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
    """Of the ratio where there is one, else of the figure."""
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
- One machine for everything, the load generator included, over TCP loopback. Nothing is pinned to a core.
- One server process each; Go's GOMAXPROCS as it comes (a thread a core), nginx with one worker. Redis: `redis-server`
  from PATH, no snapshots, no append-only file in A to D, `everysec` in E; Postgres with its defaults for durability.
- Every run has a fresh Redis, loaded with the same snapshot of packets that the engine itself made, a fresh copy of the
  ledger, and a fresh server, which must first answer a claim, its repeat and a sold-out packet right. Then a warm-up on
  other packets, then the measurement.
- Peers call one script a claim on the same keys: a repeat gets its amount, a winner's share is popped, written with its
  time, counted, and told in the stream. They check no token and write no ledger. Ours checks its backend's token and
  everything else it always checks.
- In A to D no persister runs while it is measured: the peers have none. After each run ours carries everything over
  and the whole audit runs; of the peers' runs, claims, shares and stream are compared share by share. A run that fails
  is void.
- Servers take turns round by round, another one first each time. Figures are medians, brackets the least and the most;
  ratios are taken within a round.
- A: packets of 100 shares, their 100 users one after another, packet after packet. B: 16 packets at a time.
- CPU time is the kernel's account of each process tree. wrk runs one thread (D and the open loop have generators of
  their own, a process each); a run in which the generator used more than 90 % of a core, or saw any error, is void.
  What it uses the servers cannot have: it is shown.
- Claims are counted in Redis, not in the answers; in B repeats follow from the walk (each winner taps twice), and the
  rest of the answers are refusals.
"""
