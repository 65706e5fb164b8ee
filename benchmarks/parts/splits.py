"""Workload G: the speed of a lucky split, and that all places in the queue are equal."""

from typing import Any

import numpy as np

from benchmarks.parts.split import seconds_a_split
from benchmarks.rig.bench import Bench
from engine.packets.split import split
from engine.records import SplitKind

SIZES = ((10, 2_000), (100, 500), (10_000, 10), (1_000_000, 1))
"""(shares, splits per round)."""
_PLACES, _SPLITS, _SHARE_FEN = 10, 4_000, 1_000


def splits(bench: Bench) -> None:
    """Measure times by size, and the distribution of shares at each of ten places over many splits."""
    found: dict[str, Any] = {"times": []}
    for count, each in SIZES:
        seconds = seconds_a_split(count * _SHARE_FEN, count, each, bench.plan.split_rounds)
        found["times"].append({"shares": count, "us_a_split": seconds * 1e6, "shares_per_s": count / seconds})
        bench.say(f"G              {count:>9,} shares: {seconds * 1e6:>11,.1f} us per split")
    amounts = np.stack([_one(number) for number in range(_SPLITS)])
    found["by_place"] = {
        "splits": _SPLITS,
        "mean_fen": amounts.mean(axis=0).tolist(),
        "percentiles_fen": {str(p): np.percentile(amounts, p, axis=0).tolist() for p in (5, 25, 50, 75, 95)},
        "luckiest_share": (np.bincount(amounts.argmax(axis=1), minlength=_PLACES) / _SPLITS).tolist(),
    }
    bench.others["split"] = found


def _one(number: int) -> "np.ndarray[Any, Any]":
    seed = number.to_bytes(32, "big")
    return np.asarray(split(SplitKind.LUCKY, _PLACES * _SHARE_FEN, _PLACES, 1, 20_000, seed))
