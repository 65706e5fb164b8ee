"""Two checkouts side by side: this one against itself on real servers, and what the figures make of bursts."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.compare import HERE, Burst, Schedule, SideFailedError, compare, main, summary
from tests.support.needs import skip_for_want_of


def burst(claims_per_s: float, server_us: float = 20.0) -> Burst:
    return {"claims_per_s": claims_per_s, "server_us": server_us, "redis_us": 5.0, "void": None}


def test_the_ratio_is_that_of_bursts_side_by_side() -> None:
    # The machine halves its speed in the middle; the new side is a tenth faster throughout.
    bursts = [(burst(rate), burst(rate * 1.1, 18.0)) for rate in (40_000.0, 40_000.0, 20_000.0, 20_000.0, 20_000.0)]
    claims, server, redis = summary(bursts)
    assert "old  20,000.0  new  22,000.0  ratio 1.100 (quartiles 1.10 to 1.10)" in claims
    assert "ratio 0.900" in server
    assert "ratio 1.000" in redis


def test_what_took_less_than_the_kernel_counts_is_not_divided_by() -> None:
    bursts = [(burst(10.0, cost), burst(10.0, 2.0)) for cost in (0.0, 1.0, 0.0, 4.0)]
    assert "ratio 1.250" in summary(bursts)[1]
    assert summary(bursts[:3])[1] == "server us   too little to compare"


def test_an_old_harness_is_not_asked_for_durable_claims(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/bin/false")
    assert main([str(tmp_path), "--new", str(tmp_path), "--durable"]) == 2
    said = f"{tmp_path} is too old to count durable claims: compare without --durable.\n"
    assert capsys.readouterr().out == said


def test_a_checkout_that_was_never_set_up_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().out == f"{tmp_path} has no .venv: run `make setup` there.\n"


def test_a_side_that_cannot_run_is_named(tmp_path: Path) -> None:
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/bin/false")
    with pytest.raises(SideFailedError, match="old ended"):
        compare(tmp_path, tmp_path, Schedule(rounds=1), Console(file=io.StringIO()))


@pytest.mark.long
@pytest.mark.programs("wrk", "redis-server")
@pytest.mark.usefixtures("quick_tempdir")
@pytest.mark.parametrize("durable", [False, True])
def test_this_checkout_is_compared_with_itself(*, durable: bool) -> None:
    if not (HERE.parent / ".venv/bin/python").exists():
        skip_for_want_of("a .venv in the checkout", "make setup")
    said = io.StringIO()
    schedule = Schedule(rounds=1, pairs_a_round=2, packets=400, connections=(1,), durable=durable)
    compare(HERE.parent, HERE.parent, schedule, Console(file=said, width=200))
    assert len(re.findall(r"1 connections +[\d,]+/s +[\d,]+/s  ratio \d+\.\d\d\n", said.getvalue())) == 2
    assert "1 connections, 2 pairs, new / old:" in said.getvalue()
    assert "void" not in said.getvalue()
    costs = ["server us", "redis us", *(["persist us", "postgres us"] if durable else [])]
    assert re.findall(r"^(\w+ us) +old +\d", said.getvalue(), re.MULTILINE) == costs
