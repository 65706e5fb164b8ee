"""The fairness report tells even places from uneven ones."""

import numpy as np
import pytest

from benchmarks.parts.fairness import PLACES, TOTAL_FEN, doubling, found
from benchmarks.report.tables import sections
from engine.packets.split import split
from engine.records import SplitKind

PACKETS = 20_000


def test_our_places_are_alike_and_the_unshuffled_rules_are_not() -> None:
    ours = np.array(
        [split(SplitKind.LUCKY, TOTAL_FEN, PLACES, 1, TOTAL_FEN, n.to_bytes(32, "big")) for n in range(PACKETS)]
    )
    even, uneven = found(ours), found(doubling(PACKETS))
    for found_ in (even, uneven):
        assert found_["mean"] == pytest.approx([1.0] * PLACES, abs=0.02)
        assert sum(found_["luckiest"]) == pytest.approx(1.0)
    assert min(even["luckiest_p"], even["ranks_p"]) > 0.01
    assert max(uneven["luckiest_p"], uneven["ranks_p"]) < 1e-9
    # What makes the difference: the last two places are drawn once more than the others.
    assert uneven["deviation"] == sorted(uneven["deviation"][:-1]) + uneven["deviation"][-1:]
    assert even["deviation"] == pytest.approx([float(np.mean(even["deviation"]))] * PLACES, rel=0.03)


def test_every_packet_is_split_whole() -> None:
    amounts = doubling(1_000)
    assert (amounts.sum(axis=1) == TOTAL_FEN).all()
    assert amounts.min() >= 1


def test_the_table_has_every_place_of_both_rules() -> None:
    rules = {name: found(doubling(100)) for name in ("one", "other")}
    (section,) = sections({"runs": [], "others": {"fairness": {"packets": 100, "rules": rules}}})
    assert section.count("| one |") == section.count("| other |") == PLACES + 1
