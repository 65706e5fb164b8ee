"""What the parts of a claim's row cost Postgres: the figures, and a short run."""

import io

import pytest
from rich.console import Console

from benchmarks.parts.postgres import AS_IS, PARTS, Sizes, lines, measure


def test_a_parts_cost_is_what_it_changes_within_a_round() -> None:
    # The machine halves its speed after the first round.
    rounds = [
        {AS_IS.name: 4.0, "without it": 3.0},
        {AS_IS.name: 8.0, "without it": 6.5},
        {AS_IS.name: 8.0, "without it": 6.0},
    ]
    whole, without = lines(rounds)
    assert whole.split() == ["a", "row,", "as", "it", "is", "8.00", "us", "of", "CPU"]
    assert without.split("  ")[-1].strip() == "-1.50 us (-2.00 to -1.00)"


@pytest.mark.long
@pytest.mark.programs("redis-server")
@pytest.mark.usefixtures("quick_tempdir")
def test_every_part_can_be_left_out() -> None:
    said = io.StringIO()
    (used,) = measure(Sizes(rounds=1, batches=1, rows=1_000, wallets=200), Console(file=said, width=200))
    assert list(used) == [part.name for part in PARTS[::-1]]
    assert "of the updates touch no index" in said.getvalue()
