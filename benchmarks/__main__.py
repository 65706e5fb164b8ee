"""``python -m benchmarks``: measure, audit, and write the report. The default is everything (about 45 minutes)."""

import argparse
import dataclasses
import logging
import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from benchmarks.parts import (
    acks,
    ages,
    batches,
    ceilings,
    connections,
    crowding,
    durable,
    fairness,
    lanes,
    limits,
    masters,
    memory,
    open_loop,
    outage,
    overload,
    persisting,
    profiles,
    sends,
    sizes,
    splits,
    storms,
    wallets,
)
from benchmarks.peers import availability
from benchmarks.report import report
from benchmarks.rig import machine, stage, wrk
from benchmarks.rig.bench import Bench
from benchmarks.rig.plan import QUICK, WHOLE, Plan
from benchmarks.rig.servers import OURS, SERVERS, Server
from engine.analysis.font_lists import kept_somewhere
from engine.errors import HongbaoError
from engine.observability.terminal import print_anything

PARTS: dict[str, tuple[str, Callable[[Bench], None]]] = {
    "CEILING": ("the generators alone", ceilings.ceilings),
    "A": ("all winners", storms.all_winners),
    "B": ("group storm", storms.group_storm),
    "C": ("one hot packet", storms.hot_packet),
    "D": ("requests of 500", batches.batches),
    "OPEN": ("open loop", open_loop.open_loop),
    "OVERLOAD": ("overload", overload.overload),
    "E": ("everything on", durable.everything_on),
    "AOF": ("append-only file", durable.append_only_file),
    "ACK": ("ack modes", acks.ack_modes),
    "F": ("persister alone", persisting.persister_alone),
    "MEMORY": ("memory", memory.memory),
    "G": ("split", splits.splits),
    "PROFILE": ("profiles", profiles.profiles),
    "OUTAGE": ("Postgres held", outage.outage),
    "FAIRNESS": ("a million packets", fairness.fairness),
    "CROWDING": ("beside ten million packets", crowding.crowding),
    "LIMITS": ("limits reached together", limits.limits),
    "LANES": ("more lanes", lanes.lanes),
    "MASTERS": ("more masters", masters.masters),
    "CONNECTIONS": ("more connections", connections.connections),
    "SENDS": ("packets sent", sends.sends),
    "WALLETS": ("pages of a wallet", wallets.wallets),
    "AGES": ("after thirty million claims", ages.ages),
    "PERSISTERS": ("several persisters", persisting.several),
    "SIZES": ("bytes of a claim", sizes.sizes),
}
"""The parts in the order of measuring: the open loop needs A's result."""
GROWTH = ("CROWDING", "LANES", "CONNECTIONS", "SENDS", "WALLETS", "AGES")
"""What a claim costs if there is more of something. The last fills a ledger of thirty million entries."""
APART = frozenset({*GROWTH, "OUTAGE", "FAIRNESS", "LIMITS", "MASTERS", "PERSISTERS", "SIZES"})
"""Not in the default: they compare no servers and take minutes."""


def main(arguments: list[str]) -> int:
    """Measure. Returns 0 if the report is written, with any result, 1 if nothing could be measured, 130 if stopped."""
    options = _options(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    print_anything()
    console = Console(highlight=False)
    plan = QUICK if options.quick else WHOLE
    if options.rounds:
        plan = plan.with_rounds(options.rounds)
    if options.install:
        for problem in availability.install():
            console.print(f"not installed: {problem}", markup=False)
    if not wrk.found():
        console.print("wrk is not on PATH (--install gets it from Debian's packages as root).", markup=False)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # this unwinds, so that no server and no folder is left
    try:
        results = measure(plan, options.only, console)
    except KeyboardInterrupt:
        console.print("Stopped; nothing is left running.")
        return 130
    except HongbaoError as error:
        console.print(f"Nothing could be measured: {error}", markup=False)
        return 1
    folder = options.out or Path(__file__).parent / "results" / results["date"]
    folder.mkdir(parents=True, exist_ok=True)
    with kept_somewhere():
        from benchmarks.report import pictures  # noqa: PLC0415  # matplotlib is slow to import, and only used here

    report.write(folder, results, pictures.draw(folder, results))
    _show_goals(console, results)
    console.print(f"The report is in {folder / report.REPORT}", markup=False, soft_wrap=True)
    return 0


def _show_goals(console: Console, results: dict[str, Any]) -> None:
    """Show the goals: a coloured table on a terminal, otherwise Markdown."""
    if not console.is_terminal:
        console.print(report.goal_table(results), markup=False, soft_wrap=True)
        return
    shown = Table(*report.GOAL_HEAD)
    for row in report.goal_rows(results):
        colour = {"yes": "green", "**no**": "red"}.get(row[-1], "")
        shown.add_row(*row[:-1], Text(row[-1].strip("*"), style=colour))
    console.print(shown)


def measure(plan: Plan, parts: list[str], console: Console) -> dict[str, Any]:
    """Do the chosen parts. Returns the raw results."""
    started_s, now = time.monotonic(), datetime.now(UTC)
    failed: dict[str, str] = {}
    servers, skipped = _servers()
    for name, why in skipped.items():
        console.print(f"skipped: {name}: {why}", markup=False)
    columns = (TextColumn("{task.description:<24}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress, stage.stage() as prepared:
        task = progress.add_task("", total=len(parts))

        def say(text: str) -> None:
            progress.console.print(f"{time.monotonic() - started_s:6.0f} s  {text}", markup=False, soft_wrap=True)

        bench = Bench(stage=prepared, plan=plan, servers=servers, say=say)
        for name in parts:
            title, play = PARTS[name]
            progress.update(task, description=f"{name}: {title}")
            if why := _played(play, bench):
                failed[name] = why
            progress.advance(task)
    return {
        "date": now.strftime("%Y-%m-%d"),
        "plan": dataclasses.asdict(plan),
        "parts": parts,
        "machine": machine.facts(),
        "skipped": skipped,
        "failed": failed,
        "took_s": time.monotonic() - started_s,
        "runs": bench.runs,
        "others": bench.others,
    }


def _played(play: Callable[[Bench], None], bench: Bench) -> str:
    """Do one part. Returns why it ended early, or an empty text. The other parts still run."""
    try:
        play(bench)
    except Exception as error:
        bench.stage.redis.stop()
        bench.say(traceback.format_exc())
        return f"{type(error).__name__}: {error}"
    return ""


def _servers() -> tuple[list[Server], dict[str, str]]:
    """Our server, the peers that can run here, and why the others cannot."""
    found = [availability.check(peer) for peer in availability.PEERS]
    runnable = [SERVERS[peer.peer] for peer in found if not peer.missing]
    return [OURS, *runnable], {peer.peer: peer.missing for peer in found if peer.missing}


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, shorter runs (under 4 minutes)")
    whole = [name for name in PARTS if name not in APART]
    parser.add_argument(
        "--only", type=_parts, default=whole, help=f"some of {','.join(PARTS)}; GROWTH: {','.join(GROWTH)}"
    )
    parser.add_argument("--rounds", type=int, help="how many rounds")
    parser.add_argument("--out", type=Path, help="where the report goes (default: benchmarks/results/<date>)")
    parser.add_argument("--install", action="store_true", help="get what the peers need first (apt-get as root, npm)")
    return parser.parse_args(arguments)


def _parts(text: str) -> list[str]:
    chosen = {name.strip().upper() for name in text.split(",")}
    if "GROWTH" in chosen:
        chosen = chosen - {"GROWTH"} | set(GROWTH)
    if unknown := chosen - PARTS.keys():
        known = ", ".join((*PARTS, "GROWTH"))
        raise argparse.ArgumentTypeError(f"there is no {', '.join(sorted(unknown))}; there are {known}")
    return [name for name in PARTS if name in chosen]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
