"""Reading what perf says of a process."""

import pytest

from benchmarks.parts.profiles import NO_NAME, parse, summary

REPORT = """
# Samples: 641  of event 'cpu-clock'
# Overhead;Shared Object    ;Symbol                    ;IPC   [IPC Coverage]
50.00%  ;redis-check-rdb  ;[.] dictFind              ;-      -
20.50%  ;redis-check-rdb  ;[.] 0x000000000015924a    ;-      -
10.00%  ;redis-check-rdb  ;[.] 0x000000000015e6d0    ;-      -
19.50%  ;[kernel.kallsyms];[k] _raw_spin_unlock      ;-      -
"""


def test_each_line_is_a_share_a_library_and_a_symbol() -> None:
    nameless = f"{NO_NAME} in redis-check-rdb"
    assert parse(REPORT) == [
        (0.5, "redis-check-rdb", "dictFind"),
        (0.205, "redis-check-rdb", nameless),
        (0.1, "redis-check-rdb", nameless),
        (0.195, "[kernel.kallsyms]", "_raw_spin_unlock"),
    ]
    assert parse("") == []


def test_what_has_no_name_counts_together() -> None:
    found = summary(parse(REPORT))
    assert found["libraries"] == pytest.approx({"redis-check-rdb": 0.805, "[kernel.kallsyms]": 0.195})
    assert [symbol for _, symbol, _ in found["symbols"]] == [
        "dictFind",
        f"{NO_NAME} in redis-check-rdb",
        "_raw_spin_unlock",
    ]
    assert found["symbols"][1][2] == pytest.approx(0.305)
