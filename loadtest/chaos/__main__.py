"""`make chaos`: ``python -m loadtest.chaos --seed N --kills N [--ack MODE] [--lose-redis] [--no-full-disk]``.

Of a cluster: ``python -m loadtest.chaos --seed N --nodes 3 --faults N [--ack MODE]``.
"""

import argparse
import signal
import sys
from types import FrameType

from rich.console import Console

from engine.observability.terminal import print_anything
from loadtest.chaos.plan import CLUSTER_MODES, FAULTS, KILLS, KILLS_MAX, MODES, NODES_MAX, NODES_MIN, Plan
from loadtest.chaos.run import run
from loadtest.running import NotStartedError


def main(words: list[str]) -> int:
    """Play the plan in the arguments. Returns the exit code."""
    plan = _plan(words)
    print_anything()
    console = Console()
    try:
        return run(console, plan)
    except NotStartedError as error:
        console.print(f"The engine did not start: {error}", markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("Stopped; nothing is left running.")
        return 128 + signal.SIGINT


def _plan(words: list[str]) -> Plan:
    parser = argparse.ArgumentParser(prog="python -m loadtest.chaos", description="Faults from a seed; then the books.")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same faults")
    parser.add_argument("--kills", type=_kills, default=KILLS, help="how many processes are killed (default: 25)")
    parser.add_argument("--nodes", type=_nodes, default=0, help="a cluster of this many masters, each with a replica")
    parser.add_argument("--faults", type=_kills, default=FAULTS, help="how many the cluster suffers (default: 30)")
    parser.add_argument(
        "--ack", choices=sorted({*MODES, *CLUSTER_MODES}), default=MODES[0], help="when claims are acknowledged"
    )
    parser.add_argument("--lose-redis", action="store_true", help="also empty Redis, and set it back to an older copy")
    parser.add_argument("--no-full-disk", dest="full_disk", action="store_false", help="never fill up a disk")
    given = parser.parse_args(words)
    if given.ack not in (CLUSTER_MODES if given.nodes else MODES):
        parser.error(f"--ack {given.ack} is not played {'with' if given.nodes else 'without'} --nodes")
    if given.nodes and given.lose_redis:
        parser.error("--lose-redis empties a single Redis: leave it out, or --nodes")
    return Plan(
        seed=given.seed,
        kills=given.kills,
        ack=given.ack,
        lose_redis=given.lose_redis,
        full_disk=given.full_disk,
        nodes=given.nodes,
        faults=given.faults,
    )


def _kills(text: str) -> int:
    kills = int(text)
    if not 0 <= kills <= KILLS_MAX:
        raise argparse.ArgumentTypeError(f"must be from 0 to {KILLS_MAX}")
    return kills


def _nodes(text: str) -> int:
    nodes = int(text)
    if not NODES_MIN <= nodes <= NODES_MAX:
        raise argparse.ArgumentTypeError(f"must be from {NODES_MIN} to {NODES_MAX}")
    return nodes


def _end(number: int, _frame: FrameType | None) -> None:
    """Turn SIGTERM into an exception, so that everything that was started is stopped."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main(sys.argv[1:]))
