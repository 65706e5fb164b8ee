"""``python -m benchmarks.compare OLD``: is this checkout's claim path as fast as another's?

Both run at once, each on its own servers, and only one is loaded at a time: a second of workload A for one, then a
second for the other. A shared machine changes its speed within minutes by more than the difference in question. So the
ratio of two adjacent seconds says more than any rate. With ``--durable`` everything is on, and a claim counts once it
is in the ledger (workload E).
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.parts.storms import CONNECTIONS
from benchmarks.rig import wrk
from engine.observability.terminal import print_anything

HERE = Path(__file__).parent
ROUNDS, PACKETS = 5, 6_000
"""Enough packets for a round at some 60,000 claims per second."""
FIGURES = {
    "claims_per_s": "claims/s",
    "server_us": "server us",
    "redis_us": "redis us",
    "persist_us": "persist us",
    "postgres_us": "postgres us",
}
"""The fields that ``benchmarks.bursts`` prints, and their labels. The last two only if claims are durable."""
Burst = dict[str, Any]
"""FIGURES, of which CPU times are per claim. ``void``: why it does not count, or None."""


class SideFailedError(Exception):
    """One of the two sides ended or never started."""


@dataclass(frozen=True, slots=True)
class Side:
    """One checkout's process."""

    name: str
    process: "subprocess.Popen[str]"

    def line(self) -> str:
        """Its next line of output. Raises SideFailedError."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            raise SideFailedError(f"{self.name} ended: what it said is above")
        return line

    def tell(self, line: str) -> None:
        """Send it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def burst(self, connections: int) -> Burst:
        """Play a second of load."""
        self.tell(str(connections))
        done: Burst = json.loads(self.line())
        return done


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """``packets``: packets per side and round. ``gateway``: in that shape (``benchmarks.rig.shapes``)."""

    rounds: int = ROUNDS
    pairs_a_round: int = 4
    packets: int = PACKETS
    connections: Sequence[int] = CONNECTIONS
    gateway: bool = False
    durable: bool = False

    @property
    def words(self) -> list[str]:
        """What ``benchmarks.bursts`` is told."""
        chosen = {"gateway": self.gateway, "durable": self.durable}
        return [str(self.rounds), str(self.packets), *(word for word, is_chosen in chosen.items() if is_chosen)]


@contextmanager
def side(name: str, checkout: Path, schedule: Schedule) -> Iterator[Side]:
    """Start one checkout's side, with its own Python and harness. It ends with the block."""
    own = checkout / "benchmarks" / "bursts.py"  # a harness of another layout needs its own
    knows = own.exists() and (not schedule.durable or "durable" in own.read_text(encoding="utf-8"))
    argv = [str(checkout / ".venv/bin/python"), "-P", str(own if knows else HERE / "bursts.py"), *schedule.words]
    variables = {**os.environ, "PYTHONPATH": str(checkout)}
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", cwd=checkout, env=variables
    ) as process:
        try:
            yield Side(name, process)
        except BaseException:
            process.send_signal(signal.SIGINT)
            raise


def pairs(old: Side, new: Side, schedule: Schedule) -> Iterator[tuple[int, Burst, Burst]]:
    """Connections, the old side's burst and the new side's, one right after the other. The first side alternates."""
    for _ in range(schedule.rounds):
        for each in (old, new):
            each.line()  # ready
        for number in range(schedule.pairs_a_round + 1):
            for connections in schedule.connections:
                order = (old, new) if number % 2 else (new, old)
                done = {each.name: each.burst(connections) for each in order}
                if number:  # the first of a round is the warm-up
                    yield connections, done[old.name], done[new.name]
        for each in (old, new):
            each.tell("")


def summary(bursts: Sequence[tuple[Burst, Burst]]) -> list[str]:
    """Per figure: old median, new median, and the ratio's median and quartiles. Needs at least two pairs."""
    lines = []
    for name, title in FIGURES.items():
        if bursts[0][0].get(name) is None:
            continue
        olds, news = ([pair[place][name] for pair in bursts] for place in (0, 1))
        ratios = [new / old for old, new in zip(olds, news, strict=True) if old]
        if len(ratios) < 2:  # the kernel counts CPU time in hundredths of a second
            lines.append(f"{title:<11} too little to compare")
            continue
        low, median, high = statistics.quantiles(ratios, n=4)
        lines.append(
            f"{title:<11} old {statistics.median(olds):>9,.1f}  new {statistics.median(news):>9,.1f}  "
            f"ratio {median:.3f} (quartiles {low:.2f} to {high:.2f})"
        )
    return lines


def compare(old: Path, new: Path, schedule: Schedule, console: Console) -> None:
    """Measure both and print. Raises SideFailedError."""
    kept: dict[int, list[tuple[Burst, Burst]]] = {connections: [] for connections in schedule.connections}
    void = 0
    with side("old", old, schedule) as first, side("new", new, schedule) as second:
        for connections, before, after in pairs(first, second, schedule):
            if why := before["void"] or after["void"]:
                void += 1
                console.print(f"{connections:>4} connections  VOID: {why}", markup=False)
                continue
            kept[connections].append((before, after))
            ratio = after["claims_per_s"] / before["claims_per_s"]
            rates = f"{before['claims_per_s']:>9,.0f}/s {after['claims_per_s']:>9,.0f}/s"
            console.print(f"{connections:>4} connections {rates}  ratio {ratio:.2f}", markup=False)
    for each in (first, second):
        if each.process.returncode:
            raise SideFailedError(f"{each.name} ended with {each.process.returncode}: what it said is above")
    for connections, bursts in kept.items():
        console.print(f"\n{connections} connections, {len(bursts)} pairs, new / old:")
        for line in summary(bursts) if len(bursts) > 1 else ["too few pairs"]:
            console.print(line, markup=False)
    if void:
        console.print(f"\n{void} pairs were void.")


def shapes(checkout: Path) -> str:
    """What a checkout's requests are made by; empty if it is older than this."""
    source = checkout / "benchmarks/rig/shapes.py"
    return source.read_text(encoding="utf-8") if source.exists() else ""


def _refusal(old: Path, new: Path, schedule: Schedule) -> str | None:
    """Why these two cannot be compared in this way, or None."""
    for checkout in (old, new):
        if not (checkout / ".venv/bin/python").exists():
            return f"{checkout} has no .venv: run `make setup` there."
        if schedule.durable and not (checkout / "benchmarks/rig/variants.py").exists():
            return f"{checkout} is too old to count durable claims: compare without --durable."
    if schedule.gateway and shapes(old) != shapes(new):
        return "The two checkouts make different requests of a gateway: compare them without --gateway."
    return None


def main(arguments: list[str]) -> int:
    """Returns 0 if both were measured, 1 if one could not be, 130 if stopped."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("old", type=Path, help="another checkout, after its `make setup`")
    parser.add_argument("--new", type=Path, default=HERE.parent, help="default: this one")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="each on fresh servers (default: 5)")
    parser.add_argument("--packets", type=int, default=PACKETS, help="that a side has in a round")
    parser.add_argument("--durable", action="store_true", help="a claim counts once it is in the ledger")
    parser.add_argument("--gateway", action="store_true", help="each request has unique headers, as from a gateway")
    options = parser.parse_args(arguments)
    print_anything()
    console = Console(highlight=False, soft_wrap=True)
    old, new = options.old.resolve(), options.new.resolve()
    schedule = Schedule(
        rounds=options.rounds, packets=options.packets, gateway=options.gateway, durable=options.durable
    )
    if (refusal := _refusal(old, new, schedule)) is not None:
        console.print(refusal, markup=False)
        return 2
    if not wrk.found():
        console.print("wrk is not on PATH (`python -m benchmarks --install` gets it as root).", markup=False)
        return 1
    try:
        compare(old, new, schedule, console)
    except SideFailedError as error:
        console.print(str(error), markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("Stopped; nothing is left running.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
