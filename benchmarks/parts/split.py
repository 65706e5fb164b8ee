"""The speed of a lucky split: ``python -m benchmarks.parts.split``. Medians, in one process on one core."""

import statistics
import time

from engine.packets.split import split
from engine.records import SplitKind

SEED = bytes(32)


def seconds_a_split(total_fen: int, count: int, splits: int, rounds: int) -> float:
    """The median over ``rounds`` of the mean time of ``splits`` splits, in seconds per split."""
    times_s = []
    for _ in range(rounds):
        started_s = time.perf_counter()
        for _ in range(splits):
            split(SplitKind.LUCKY, total_fen, count, 1, 20_000, SEED)
        times_s.append((time.perf_counter() - started_s) / splits)
    return statistics.median(times_s)


def main() -> None:
    """Print one line per count."""
    for count, splits, rounds in ((10, 5_000, 9), (100, 1_000, 9), (10_000, 20, 9), (1_000_000, 1, 9)):
        seconds = seconds_a_split(count * 1_000, count, splits, rounds)
        print(
            f"{count:>9,} shares: {seconds * 1e6:>11,.1f} us per split, {count / seconds / 1e6:>5.2f} million shares/s"
        )


if __name__ == "__main__":
    main()
