"""`hongbao plan`, and the tables of docs/scale.md, which are what it prints."""

import os
import pty
import subprocess
import sys
from dataclasses import asdict

import orjson
import pytest

from engine.capacity import Demand, plan
from engine.cli.plan import as_size, rows
from engine.costs import COSTS, PACKETS
from tests.support.commands import environment, hongbao
from tests.support.repository import ROOT

RATES = (10_000, 100_000, 760_000, 3_600_000)
PEAK_S, SHARES = 600, 100
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
WORDS = ("--claims-per-second", "10000", "--packet-count", "60000")


def demand(rate: int, **others: float) -> Demand:
    return Demand(claims_per_second=rate, packet_count=rate * PEAK_S // SHARES, **others)  # type: ignore[arg-type]


def lines(**others: float) -> list[str]:
    """The rows of a table, a column per rate."""
    columns = [list(rows(plan(demand(rate, **others)))) for rate in RATES]
    return [
        f"| {beside[0][0]} | {beside[0][1]} | {' | '.join(value for _, _, value in beside)} |"
        for beside in zip(*columns, strict=True)
    ]


PER_MILLION = {
    "open": "Redis, packets that nobody has claimed",
    "settled": "Redis, once all is claimed and booked",
    "stream": "Redis beside it, until the ledger has the claims",
    "append_only_file": "append-only file",
    "replica": "Redis to each replica",
    "persister_redis": "persister and Redis, both ways",
    "persister_postgres": "persister and Postgres, both ways",
    "ledger": "ledger, with indexes",
    "ledger_log": "Postgres's log (WAL)",
}


def per_million() -> list[str]:
    """The rows of bytes per million claims."""
    return [
        f"| {what} | {' | '.join(as_size(getattr(packet, name) / packet.shares * 1e6) for packet in PACKETS)} |"
        for name, what in PER_MILLION.items()
    ]


def test_the_page_has_each_cost_and_what_a_core_carries() -> None:
    costs = {name: us for name, us in asdict(COSTS).items() if name.endswith("_us")}
    cells = [f"| {us} | {round(0.6e6 / us, -2):,.0f}/s |" for us in costs.values()]
    assert [cell for cell in cells if cell not in PAGE] == []


def test_the_page_has_the_bytes_of_a_million_claims() -> None:
    assert [line for line in per_million() if line not in PAGE] == []


def test_the_page_has_every_row() -> None:
    missing = [line for line in lines() if line not in PAGE]
    assert missing == [], "\n".join(lines())


@pytest.mark.parametrize(
    ("title", "others"),
    [("## Scattered claims", {"scattered": True}), ("## Losers", {"hands_per_share": 11})],
)
def test_the_page_has_the_cores_of_other_crowds(title: str, others: dict[str, float]) -> None:
    section = PAGE[PAGE.index(title) :]
    section = section[: section.index("\n## ")]
    cores = [line for line in lines(**others) if line.startswith("| cores |")]
    assert [line for line in cores if line not in section] == [], "\n".join(cores)


def test_it_prints_the_rows_as_plain_lines() -> None:
    finished = hongbao("plan", *WORDS)
    assert (finished.returncode, finished.stderr) == (0, "")
    printed = finished.stdout.splitlines()
    assert printed == [f"{part:<12} {what}: {value}" for part, what, value in rows(plan(demand(10_000)))]


def test_a_terminal_gets_a_table() -> None:
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "engine", "plan", "--claims-per-second", "760,000", "--packet-count", "1,000"]
    finished = subprocess.run(
        words, env=environment(COLUMNS="100"), stdout=theirs, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(theirs)
    shown = os.read(ours, 65_536).decode()
    os.close(ours)
    assert (finished.returncode, finished.stderr) == (0, b"")
    assert "won per second" in shown
    assert "won per second: " not in shown
    assert "One Postgres was tried with up to 148,641 claims per second." in shown


def test_it_needs_no_server_and_no_settings() -> None:
    finished = hongbao("plan", *WORDS, HONGBAO_REDIS_URL="nonsense", HONGBAO_LANES="abc")
    assert finished.returncode == 0


def test_json_has_the_numbers() -> None:
    finished = hongbao("plan", *WORDS, "--hands-per-share", "3", "--replicas", "2", "--json")
    told = orjson.loads(finished.stdout)
    assert told["load"]["losers_per_second"] == 20_000
    assert told["parts"]["redis_servers"] == 3 * told["parts"]["redis_masters"]
    assert told["backlog"]["full_after_s"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--claims-per-second", "0"], "--claims-per-second must be from 1 to 1,000,000,000, not 0."),
        (["--claims-per-second", "many"], "--claims-per-second must be a whole number, not 'many'."),
        (["--packet-count", "1.5"], "--packet-count must be a whole number, not '1.5'."),
        (["--packet-count", "-1"], "--packet-count must be from 1 to 1,000,000,000,000, not -1."),
        (["--shares-per-packet", "0"], "--shares-per-packet must be from 1 to 10,000,000, not 0."),
        (["--hands-per-share", "0.5"], "--hands-per-share must be from 1 to 1,000,000, not 0.5."),
        (["--hands-per-share", "inf"], "--hands-per-share must be from 1 to 1,000,000, not inf."),
        (["--utilization", "nan"], "--utilization must be from 0.01 to 1, not nan."),
        (["--utilization", "half"], "--utilization must be a number, not 'half'."),
        (["--replicas", "17"], "--replicas must be from 0 to 16, not 17."),
        (["--ledger-claims-per-second", "0"], "--ledger-claims-per-second must be from 1 to 1,000,000,000, not 0."),
    ],
)
def test_a_mistake_is_one_sentence(words: list[str], said: str) -> None:
    finished = hongbao("plan", *WORDS, *words)
    assert (finished.returncode, finished.stdout, finished.stderr) == (2, "", f"hongbao: {said}\n")


def test_the_page_says_what_a_galas_shakes_take() -> None:
    found = plan(Demand(claims_per_second=100_000, packet_count=1_000, hands_per_share=141))
    assert found.load.losers_per_second == 14_000_000
    said = f"the published rate of a gala's shakes, 2015) take {found.parts.api_processes} API cores"
    assert said in " ".join(PAGE.split())


def test_the_page_says_how_long_a_minutes_backlog_takes() -> None:
    found = plan(Demand(claims_per_second=760_000, packet_count=456_000))
    assert (round(found.backlog.at_the_end, -6), round(found.backlog.caught_up_after_s)) == (37_000_000, 247)
    assert as_size(found.memory.redis_backlog_unbounded) == "789 MB"
    assert "37 million claims. They take 789 MB in Redis and are booked in another 247 s" in " ".join(PAGE.split())
