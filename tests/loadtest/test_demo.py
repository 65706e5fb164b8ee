"""The demo, small: what it prints, that it notices what is wrong, and that it leaves nothing behind."""

import asyncio
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from datetime import date
from pathlib import Path

import asyncpg
import psutil
import pytest
from rich.console import Console

from engine.embedded import servers
from loadtest.demo import pictures
from loadtest.demo.__main__ import conclude, main
from loadtest.demo.storm import Answers, Client, storm
from loadtest.demo.story import FULL, Sizes, Story
from loadtest.running import NotStartedError, Running, running
from loadtest.steps import Steps
from loadtest.told import ContradictionError
from tests.support.commands import environment
from tests.support.supervised import is_alive
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long

# The large packet is one that the product lets merchants send, and no person.
TINY = Sizes(
    senders=2, users=60, packets=6, taps=1_200, hands=8, large_count=120, timed_count=20, timed_taps=5, timed_ttl_s=3
)
ENDLESS = "Sizes(senders=2, users=20, packets=6, taps=200_000, hands=8)"


@pytest.fixture(autouse=True)
def temporary(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo puts its data directory; in a folder that others pass through, as /tmp is."""
    folder = quick_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))  # what it starts must find the same place for sockets
    return folder


def execute(engine: Running, statement: str) -> None:
    """Change the ledger behind its back."""

    async def work() -> None:
        connection = await asyncpg.connect(servers.urls(engine.data_dir).database_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(work())


@contextmanager
def endless_demo(temporary: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A demo in a process of its own that would take minutes; its output goes to the files ``out`` and ``err``."""
    code = (
        "import signal, sys, loadtest.demo.__main__\n"
        "from loadtest.demo.story import Sizes\n"
        "signal.signal(signal.SIGTERM, loadtest.demo.__main__._end)\n"
        f"sys.exit(loadtest.demo.__main__.main({ENDLESS}))"
    )
    with (
        temporary.with_name("out").open("wb") as out,
        temporary.with_name("err").open("wb") as err,
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=out, stderr=err, env=environment(TMPDIR=str(temporary))
        ) as demo,
    ):
        try:
            yield demo
        finally:
            demo.kill()


def left_in(temporary: Path) -> list[Path]:
    """Data directories left behind."""
    return list(temporary.glob("hongbao-*/data"))


def lines_of(text: str) -> list[str]:
    """The lines without their frames and runs of spaces."""
    return [" ".join(re.sub(r"[│┃|]", " ", line).split()) for line in text.splitlines()]


def test_the_demo_tells_the_whole_story_in_80_columns(
    capsys: pytest.CaptureFixture[str], temporary: Path, quick_path: Path
) -> None:
    """And while the engine runs: that it fails on a wrong book, and on an audit that cannot run."""

    drawn = quick_path / "pictures"

    def spoil(engine: Running, story: Story) -> None:
        printed = capsys.readouterr().out
        spoilt_one_after_the_other(capsys, engine, story)
        sys.stdout.write(printed)

    exit_code = main(TINY, before_audit=spoil, folder=drawn)
    printed = capsys.readouterr().out
    lines = lines_of(printed)
    assert exit_code == 0, printed
    assert max(len(line) for line in printed.splitlines() if not line.startswith("file:")) <= 80
    assert "\x1b" not in printed
    assert any(line.startswith("60 users tapping: 1,200 of 1,200, ") for line in lines)
    for expected in (
        "claim requests answered 1,200",
        "killed in the middle (SIGKILL) persist, serve-1",
        "ok all balances sum to zero",
        "ok no user has two shares of a packet",
    ):
        assert any(line.startswith(expected) for line in lines), expected
    assert any(line.startswith("timed packet 5 of 20 claimed, ¥") and line.endswith(" refunded") for line in lines)
    assert "手气最佳, the luckiest" in lines
    assert printed.count("█") > 20
    assert "FAILED" not in printed
    assert list(temporary.iterdir()) == []
    assert (drawn / "index.html").resolve().as_uri() in printed.splitlines()
    assert (drawn / "storm.png").read_bytes().startswith(b"\x89PNG")


def test_a_demo_without_matplotlib_says_that_there_is_no_picture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    (line,) = pictures.draw(tmp_path / "data", date(2026, 2, 17), tmp_path / "out")
    assert line == "There is no picture: Pictures need matplotlib: install it with pip install 'hongbao[analysis]'."
    assert list(tmp_path.iterdir()) == []


def test_the_demo_on_a_cluster_kills_a_master_as_well(
    capsys: pytest.CaptureFixture[str], temporary: Path, quick_path: Path
) -> None:
    exit_code = main(TINY, redis_nodes=3, folder=quick_path / "pictures")
    printed = capsys.readouterr().out
    lines = lines_of(printed)
    assert exit_code == 0, printed
    assert any(re.fullmatch(r"killed in the middle \(SIGKILL\) redis-[1-6], persist, serve-1", line) for line in lines)
    (waited,) = [line for line in lines if line.startswith("wait for the killed Redis master ")]
    found = re.fullmatch(r".* master (\d+\.\d) s, ([\d,]+) claims asked again", waited)
    assert found is not None, waited
    assert float(found[1]) > 0
    assert "FAILED" not in printed
    assert list(temporary.iterdir()) == []


def spoilt_one_after_the_other(capsys: pytest.CaptureFixture[str], engine: Running, story: Story) -> None:
    falsify = "UPDATE accounts SET balance_fen = balance_fen {} 1 WHERE owner = 'user-001'"
    execute(engine, falsify.format("+"))
    assert conclude(Console(), engine, deepcopy(story)) == 1
    lines = lines_of(capsys.readouterr().out)
    assert any(line.startswith("FAILED all balances sum to zero") for line in lines)
    assert any(line.startswith("ok no user has two shares of a packet") for line in lines)
    execute(engine, falsify.format("-"))

    execute(engine, "INSERT INTO schema_versions VALUES (9999)")
    assert conclude(Console(), engine, deepcopy(story)) == 1
    assert "FAILED the audit did not run: hongbao: The database's schema" in " ".join(capsys.readouterr().out.split())
    execute(engine, "DELETE FROM schema_versions WHERE version = 9999")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_a_demo_that_is_stopped_leaves_nothing(temporary: Path, number: signal.Signals) -> None:
    out, err = temporary.with_name("out"), temporary.with_name("err")
    with endless_demo(temporary) as demo:
        await wait_until(
            lambda: "deposits and packets: 8 of 8" in out.read_text(encoding="utf-8"), timeout_s=60, what="the storm"
        )
        family = [child.pid for child in psutil.Process(demo.pid).children(recursive=True)]
        assert len(family) >= 7
        demo.send_signal(number)
        await asyncio.to_thread(demo.wait, 60)
    await wait_until(lambda: not any(map(is_alive, family)), timeout_s=30, what="the end of all it started")
    assert err.read_text(encoding="utf-8") == ""
    if number == signal.SIGKILL:  # nobody was left to clear up
        for data_dir in left_in(temporary):
            servers.remove(data_dir)
        return
    assert demo.returncode == 128 + number
    assert left_in(temporary) == []
    assert ("Stopped; nothing is left running." in out.read_text(encoding="utf-8")) == (number == signal.SIGINT)


def test_a_child_that_is_being_restarted_is_not_killed_and_one_that_runs_is(tmp_path: Path) -> None:
    engine, path = Running("", tmp_path), tmp_path / "run" / "serve-1.pid"
    path.parent.mkdir()
    assert not engine.kill("serve-1")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        path.write_text("1", encoding="utf-8")  # the first digit of more
        assert not engine.kill("serve-1")
        path.write_text(f"{child.pid}\n", encoding="utf-8")
        assert engine.kill("serve-1")
        assert child.wait() == -signal.SIGKILL
    assert not engine.kill("serve-1")


def test_an_engine_that_does_not_start_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HONGBAO_LANES", "none")
    with pytest.raises(NotStartedError, match="HONGBAO_LANES cannot be used"), running(workers=1):
        pass
    assert main(TINY) == 1
    assert "The engine did not start: hongbao: HONGBAO_LANES cannot be used" in capsys.readouterr().out


def test_answers_that_contradict_each_other_are_noticed() -> None:
    answers = Answers()

    def told(user_id: str, outcome: str, amount_fen: int) -> None:
        answer = {"outcome": outcome, "amount_fen": amount_fen, "packet_id": "1", "user_id": user_id}
        answers.take("1", user_id, answer)

    told("bob", "claimed", 5)
    told("bob", "already_claimed", 5)
    told("carol", "sold_out", 0)
    with pytest.raises(
        ContradictionError, match="bob got 5 fen of packet 1 in an answer, and then already_claimed with 6"
    ):
        told("bob", "already_claimed", 6)
    assert answers.amounts == {("1", "bob"): 5}


async def test_a_storm_without_an_answer_ends_with_one_error(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setattr("loadtest.demo.storm._RETRY_S", 0.0)
    answers = Answers()
    async with Client(f"http://127.0.0.1:{port}", {"bob": "token"}, 4) as client:
        taps = [("1", "bob")] * 8
        with pytest.raises(ContradictionError, match=r"^POST /v1/packets/1/claims had no answer in 20 tries$"):
            await storm(client, taps, hands=4, answers=answers, tapped=lambda: None)
    assert answers.retried >= 20


def test_progress_is_a_bar_on_a_terminal_and_a_line_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    for terminal in (True, False):
        with Steps(Console(force_terminal=terminal, width=80)) as steps, steps.step("counting", 2) as step:
            step.advance()
            step.advance()
        printed = capsys.readouterr().out
        assert ("━" in printed) == terminal
        assert printed.startswith("counting: 2 of 2, 0.0 s\n") != terminal


def test_the_full_sizes_are_those_promised() -> None:
    assert FULL.packets >= 60
    assert FULL.users >= 600
    assert FULL.taps >= 20_000
