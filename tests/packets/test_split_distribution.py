"""How shares are distributed. The seeds are fixed: each test passes or fails always, never by chance."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special  # type: ignore[import-untyped]

from engine.packets import doubling
from engine.packets.split import split
from engine.records import SplitKind

pytestmark = pytest.mark.long


def place_p_value(scores: NDArray[np.int64]) -> float:
    """How well "every place has the same distribution" agrees with ``scores``, one row a packet and one column a place.

    Anderson's (1959) test: count how often each place has each rank within its packet. If the places are exchangeable,
    (k - 1) / k times the chi-square sum of that table has the chi-square distribution, (k - 1)^2 degrees of freedom.
    """
    packets, places = scores.shape
    ranks = scores.argsort(axis=1, kind="stable").argsort(axis=1)
    table = np.array([np.bincount(ranks[:, place], minlength=places) for place in range(places)])
    expected = packets / places
    statistic = (places - 1) / places * ((table - expected) ** 2 / expected).sum()
    return float(special.chdtrc((places - 1) ** 2, statistic))


def shuffled(*bounds: int, seed: bytes) -> NDArray[np.int64]:
    total_fen, count, min_fen, max_fen = bounds
    return split(SplitKind.LUCKY, total_fen, count, min_fen, max_fen, seed)


def unshuffled(*bounds: int, seed: bytes) -> NDArray[np.int64]:
    total_fen, count, min_fen, max_fen = bounds
    return np.array(doubling.draw(total_fen, count, min_fen, max_fen, seed)[0], dtype=np.int64)


def scores_of_ten(source: Callable[..., NDArray[np.int64]]) -> NDArray[np.int64]:
    """20,000 packets of 10, so large that two shares of a packet are hardly ever equal."""
    return np.array([source(10**10, 10, 1, 10**10, seed=n.to_bytes(32, "big")) for n in range(20_000)])


def test_every_place_of_ten_has_the_same_distribution() -> None:
    assert place_p_value(scores_of_ten(shuffled)) > 0.01


def test_unshuffled_draws_do_not() -> None:
    assert place_p_value(scores_of_ten(unshuffled)) < 1e-9


def scores_of_tenths(source: Callable[..., NDArray[np.int64]]) -> NDArray[np.int64]:
    """1,000 packets of 2,000 (the fast path): how much each tenth of the queue varies around the packet's mean."""
    rows = [source(2 * 10**9, 2_000, 1, 10**9, seed=n.to_bytes(32, "big")) for n in range(1_000)]
    tenths: NDArray[np.int64] = ((np.array(rows) - 10**6) ** 2).reshape(1_000, 10, 200).sum(axis=2)
    return tenths


def test_every_tenth_of_a_large_packet_has_the_same_distribution() -> None:
    assert place_p_value(scores_of_tenths(shuffled)) > 0.01


def test_unshuffled_tenths_of_a_large_packet_do_not() -> None:
    assert place_p_value(scores_of_tenths(unshuffled)) < 1e-9


@pytest.mark.parametrize(
    "bounds",
    [(100, 18, 1, 20_000), (1_000, 10, 50, 20_000), (180, 10, 1, 20), (14, 10, 1, 3), (26, 10, 1, 3)],
    ids=str,
)
def test_every_draw_expects_the_mean(bounds: tuple[int, int, int, int]) -> None:
    """Also with a minimum above 1, a maximum below twice the mean, and a mean that is not whole."""
    total_fen, count, _, _ = bounds
    rows = np.array([unshuffled(*bounds, seed=n.to_bytes(32, "big")) for n in range(10_000)])
    errors = (rows.mean(axis=0) - total_fen / count) / (rows.std(axis=0) / 100)
    assert np.abs(errors).max() < 4


def test_a_draw_is_uniform_up_to_twice_the_mean() -> None:
    """The first of 2 shares of a total of 8: 1 to 7, each with the same chance."""
    first = [int(unshuffled(8, 2, 1, 20_000, seed=n.to_bytes(32, "big"))[0]) for n in range(10_000)]
    counts = np.bincount(first, minlength=8)
    assert counts[0] == 0
    assert len(counts) == 8
    expected = len(first) / 7
    statistic = ((counts[1:] - expected) ** 2 / expected).sum()
    assert special.chdtrc(6, statistic) > 0.01
