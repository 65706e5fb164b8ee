"""What a claim costs if there is more of something: the curves from runs that are made up, and a short run of each."""

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.parts import connections, sends, wallets
from benchmarks.report import goals, growth
from benchmarks.report.growth import CURVES
from benchmarks.report.tables import sections
from benchmarks.rig import stage, world
from benchmarks.rig.bench import Bench
from benchmarks.rig.plan import QUICK
from benchmarks.rig.stage import Stage


def run(lanes: int, number: int, server_us: float) -> dict[str, Any]:
    """One that counts."""
    about = {"workload": f"{lanes} lanes", "server": "hongbao", "round": number, "connections": 256, "void": None}
    return {**about, "answers_per_s": 1e6 / server_us, "cpu_us_per_answer": {"server": server_us, "redis": 1.0}}


def slower_and_slower() -> list[dict[str, Any]]:
    """The machine is half as fast in the second round."""
    return [run(lanes, number, us * number) for lanes, us in ((1, 10.0), (8, 12.0), (64, 20.0)) for number in (1, 2)]


(LANES,) = [curve for curve in CURVES if curve.grows == "lanes"]


def test_a_point_is_a_multiple_of_the_first_within_its_round() -> None:
    first, second, third = LANES.points(slower_and_slower())
    assert [point.amount for point in (first, second, third)] == [1, 8, 64]
    assert (first.cost.least, first.cost.most) == (11.0, 21.0)
    assert third.times is not None
    assert (third.times.least, third.times.most) == (21 / 11, 41 / 21)


def test_only_what_was_measured_has_a_goal_and_a_row() -> None:
    results = {"runs": slower_and_slower(), "others": {}}
    (row,) = [row for row in goals.rows(results) if "x the first cost" in row.goal]
    assert row.goal.startswith("lanes, 1 to 64: at most 1.15 x")
    assert row.met is False
    (table,) = [section for section in sections(results) if section.startswith("## Growth")]
    assert "| lanes | 64 | 31.00 (21.00–41.00) | us of API and Redis per claim | 1.93 (1.91–1.95) |" in table
    assert "wallet" not in table


def test_a_curve_within_the_bound_has_met_its_goal() -> None:
    flat = [run(lanes, 1, us) for lanes, us in ((1, 10.0), (8, 11.0), (64, 11.5))]
    (row,) = [row for row in goals.rows({"runs": flat}) if "x the first cost" in row.goal]
    assert row.met is True
    assert growth.WITHIN == 1.15


@pytest.fixture(scope="module")
def staged(quick_tempdir: None) -> Iterator[Stage]:
    """A stage for all tests of this module."""
    with stage.stage() as made:
        yield made


@pytest.mark.long
@pytest.mark.programs("wrk", "redis-server")
def test_kept_connections_and_sendings_are_measured(staged: Stage) -> None:
    small = world.build(staged, "few", packets=4, shares=100)
    kept = connections.held(staged, small, 2_000)
    assert kept["void"] is None
    assert 0 < kept["bytes_a_connection"] < 100_000
    said: list[str] = []
    sends.sends(Bench(stage=staged, plan=QUICK.with_rounds(1), servers=(), say=said.append))
    assert len(said) == 1 + len(sends.CLIENTS)
    assert not [line for line in said if "VOID" in line]


@pytest.mark.long
@pytest.mark.programs("redis-server")
def test_pages_of_a_wallet_are_measured(staged: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wallets, "ENTRIES", (100, 300))
    bench = Bench(stage=staged, plan=QUICK.with_rounds(1), servers=(), say=lambda _: None)
    wallets.wallets(bench)
    assert [done["workload"] for done in bench.runs] == ["wallet of 100", "wallet of 300"]
    for done in bench.runs:
        assert min(done["page_ms"].values()) > 0
