"""Is any place in the queue worth waiting for? A million lucky packets of ten, against the doubling rule unshuffled.

The usual rule: each share is drawn uniformly from 0 to twice the mean of the rest, in the order of the claims, and the
last gets the rest. The means are equal, but the spread is not: late places are a gamble. The totals are so large that
two shares of a packet are hardly ever equal. Otherwise the luckiest (among equals, the earlier) would favour early
places.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special  # type: ignore[import-untyped]

from benchmarks.rig.bench import Bench
from engine.packets.split import split
from engine.records import SplitKind

PLACES, TOTAL_FEN = 10, 10**10
_SEED = 2017
_SAY_EVERY = 250_000
Amounts = NDArray[np.int64]
"""One row per packet, one column per place in the queue."""


def fairness(bench: Bench) -> None:
    """Compare the places of both rules, packet by packet."""
    packets = bench.plan.fairness_packets
    amounts = np.empty((packets, PLACES), dtype=np.int64)
    for number in range(packets):
        amounts[number] = split(SplitKind.LUCKY, TOTAL_FEN, PLACES, 1, TOTAL_FEN, number.to_bytes(32, "big"))
        if (number + 1) % _SAY_EVERY == 0:
            bench.say(f"FAIRNESS       {number + 1:>9,} packets split")
    bench.others["fairness"] = {
        "packets": packets,
        "rules": {"Hongbao": found(amounts), "doubling, unshuffled": found(doubling(packets))},
    }


def doubling(packets: int) -> Amounts:
    """The doubling rule in the order of the claims."""
    chance = np.random.default_rng(_SEED)
    left = np.full(packets, TOTAL_FEN, dtype=np.int64)
    amounts = np.empty((packets, PLACES), dtype=np.int64)
    for place in range(PLACES - 1):
        amounts[:, place] = 1 + chance.random(packets) * (2 * left / (PLACES - place) - 1)
        left -= amounts[:, place]
    amounts[:, -1] = left
    return amounts


def found(amounts: Amounts) -> dict[str, Any]:
    """Per place: mean and standard deviation as fractions of the mean share, and how often it has the luckiest.

    ``luckiest_chi_square``: of these counts against equal ones. ``ranks_chi_square``: Anderson's (1959), of how often
    each place has each rank. Each comes with the probability of a value this large if all places are equal.
    """
    packets, places = amounts.shape
    mean_fen = TOTAL_FEN / places
    luckiest = np.bincount(amounts.argmax(axis=1), minlength=places)
    ranks = amounts.argsort(axis=1, kind="stable").argsort(axis=1)
    table = np.array([np.bincount(ranks[:, place], minlength=places) for place in range(places)])
    expected = packets / places
    even = float(((luckiest - expected) ** 2 / expected).sum())
    alike = float((places - 1) / places * ((table - expected) ** 2 / expected).sum())
    return {
        "mean": (amounts.mean(axis=0) / mean_fen).tolist(),
        "deviation": (amounts.std(axis=0) / mean_fen).tolist(),
        "luckiest": (luckiest / packets).tolist(),
        "luckiest_chi_square": even,
        "luckiest_p": float(special.chdtrc(places - 1, even)),
        "ranks_chi_square": alike,
        "ranks_p": float(special.chdtrc((places - 1) ** 2, alike)),
    }
