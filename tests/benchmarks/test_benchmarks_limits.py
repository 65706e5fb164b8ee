"""The limits' report: how long after its claim was booked each user was refused."""

from benchmarks.parts.limits import Sample, found
from benchmarks.report.tables import sections


def test_the_nth_user_is_compared_with_the_nth_claim() -> None:
    samples = [Sample(0.0, 0, 0), Sample(1.0, 2, 0), Sample(1.5, 4, 1), Sample(2.0, 4, 2), Sample(3.0, 4, 4)]
    # Booked at 1, 1, 1.5, 1.5; refused at 1.5, 2, 3, 3.
    assert found(samples, 4) == {"median_s": 1.5, "p99_s": 1.5, "max_s": 1.5}


def test_the_table_has_every_round_and_says_why_one_is_void() -> None:
    rounds = [{"median_s": 0.25, "p99_s": 0.5, "max_s": 0.75}, {"void": "it ended"}]
    (section,) = sections({"runs": [], "others": {"limits": {"people": 1_000, "rounds": rounds}}})
    assert "| 1 | 1,000 | 0.25 s | 0.50 s | 0.75 s |" in section
    assert "| 2 | 1,000 | it ended |" in section
