"""Chaos in small: whole runs with a few kills, and runs whose books or answers were falsified, which must fail."""

import asyncio
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from loadtest.chaos.__main__ import main
from loadtest.chaos.history import Recorded
from loadtest.chaos.plan import Plan
from loadtest.chaos.run import run
from tests.support.commands import environment
from tests.support.supervised import is_alive
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(400)  # on a machine that others use, the engine alone takes a minute to start

KILLS = 10


@pytest.fixture(autouse=True)
def temporary(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a run puts its files; in a folder that others pass through, as /tmp is."""
    folder = quick_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def left_in(temporary: Path) -> list[Path]:
    """What is left of runs."""
    return list(temporary.iterdir())


def told(printed: str) -> dict[str, str]:
    """The report's lines off a terminal."""
    return {
        name: value for name, separator, value in (line.partition(": ") for line in printed.splitlines()) if separator
    }


@pytest.mark.long
def test_nothing_is_lost_whatever_is_killed(capsys: pytest.CaptureFixture[str], temporary: Path) -> None:
    exit_code = main(["--seed", "1", "--kills", str(KILLS)])
    printed = capsys.readouterr().out
    assert exit_code == 0, printed
    report = told(printed)
    assert sum(map(int, re.findall(r" (\d+)", report["killed (SIGKILL)"]))) == KILLS
    assert int(report["acknowledged claims checked"].replace(",", "")) > 100
    assert report["wrong"] == "0"
    assert re.fullmatch(r"(\d+) of \1 invariants hold", report["audit"])
    assert "\x1b" not in printed
    assert left_in(temporary) == []


def falsify_history(_data_dir: Path, history: Path) -> None:
    """One who was told an amount was told another before."""
    record = next(record for record in Recorded(history) if getattr(record, "outcome", "") == "claimed")
    assert hasattr(record, "amount_fen")
    lines = history.read_text(encoding="utf-8").splitlines(keepends=True)
    place = next(place for place, line in enumerate(lines) if '"outcome":"claimed"' in line)
    other_fen = record.amount_fen + (1 if record.amount_fen % 10 < 9 else -1)  # as long: the run may still be writing
    lines[place] = lines[place].replace(f'"amount_fen":{record.amount_fen}', f'"amount_fen":{other_fen}')
    history.write_text("".join(lines), encoding="utf-8")


@pytest.mark.long
def test_a_failure_tells_the_seed_the_schedule_and_where_the_history_is(
    capsys: pytest.CaptureFixture[str], temporary: Path
) -> None:
    plan = Plan(seed=4, kills=1, full_disk=False)
    assert run(Console(), plan, meddle=falsify_history) == 1
    printed = capsys.readouterr().out
    assert "FAILED chaos-user-" in printed
    assert "Again with: python -m loadtest.chaos --seed 4 --kills 1 --ack memory --no-full-disk\n" in printed
    (kept,) = temporary.iterdir()
    assert f"History, schedule and logs are in {kept}\n" in printed
    schedule = (kept / "schedule.txt").read_text(encoding="utf-8").splitlines()
    assert all(line in printed for line in schedule)
    assert {path.name for path in kept.iterdir()} == {
        "history.jsonl",
        "schedule.txt",
        "up.log",
        "postgres.log",
        "redis.log",
    }


@contextmanager
def endless(temporary: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A run in a process of its own that would take half an hour; its output goes to the file ``out``."""
    words = [sys.executable, "-m", "loadtest.chaos", "--seed", "5", "--kills", "500"]
    with (
        temporary.with_name("out").open("wb") as out,
        subprocess.Popen(words, stdout=out, stderr=out, env=environment(TMPDIR=str(temporary))) as chaos,
    ):
        try:
            yield chaos
        finally:
            chaos.kill()


def has_killed(temporary: Path) -> bool:
    """Whether the first kill is in the history."""
    return any(
        '"kind":"kill"' in path.read_text(encoding="utf-8") for path in temporary.glob("hongbao-chaos-*/history.jsonl")
    )


@pytest.mark.long
async def test_chaos_that_is_stopped_leaves_nothing(temporary: Path) -> None:
    with endless(temporary) as chaos:
        await wait_until(lambda: has_killed(temporary), timeout_s=90, what="a kill")
        family = [child.pid for child in psutil.Process(chaos.pid).children(recursive=True)]
        assert len(family) >= 4
        chaos.send_signal(signal.SIGINT)
        await asyncio.to_thread(chaos.wait, 60)
    printed = temporary.with_name("out").read_text(encoding="utf-8")
    await wait_until(lambda: not any(map(is_alive, family)), timeout_s=30, what="the end of all it started")
    assert chaos.returncode == 128 + signal.SIGINT, printed
    assert "Stopped; nothing is left running." in printed
    assert left_in(temporary) == []


def test_an_engine_that_does_not_start_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    monkeypatch.setattr("loadtest.chaos.plan.LANES", 0)
    assert main(["--kills", "1"]) == 1
    assert "The engine did not start: hongbao: HONGBAO_LANES cannot be used" in capsys.readouterr().out
    assert left_in(temporary) == []
