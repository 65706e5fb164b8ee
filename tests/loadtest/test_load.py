"""`make load` as an operator runs it. Locust stays out of this process: importing it patches the standard library."""

import csv
import errno
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from engine.access import tokens
from engine.settings import Settings
from loadtest.load.identities import Headers
from loadtest.running import Running, running
from tests.support.lying_front import front
from tests.support.repository import ROOT
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long

BACKEND = ("--act-token", "backends-secret-word", "--admin-token", "banks-secret-word")


def words(url: str, report: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "loadtest.load", "--url", url, "--report", str(report), *more]


def load(url: str, report: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(url, report, *more), capture_output=True, encoding="utf-8", timeout=100, check=False, cwd=ROOT
    )


def rows(report: Path, name: str) -> list[dict[str, str]]:
    (folder,) = report.iterdir()
    with (folder / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def engine(quick_tempdir: None) -> Iterator[Running]:
    """An engine with the product's own limits, as `make serve` starts it."""
    with running(workers=1) as started_engine:
        yield started_engine


def bearer(engine: Running, user: str, scope: str) -> Headers:
    secret = tokens.load_secret(Settings(data_dir=engine.data_dir, auth_secret=None))
    return {"Authorization": f"Bearer {tokens.issue(secret, user, (scope,), 3_600)}"}


def by_a_backend(engine: Running, senders: str) -> tuple[str, ...]:
    """A small evening for somebody who has a backend's token, and no admin's."""
    token = bearer(engine, "backend", "act")["Authorization"].removeprefix("Bearer ")
    return ("--act-token", token, "--funded-senders", senders, "--users", "40", "--eve-s", "4", "--processes", "1")


@pytest.mark.timeout(180)
def test_make_load_ends_with_a_report_and_a_clean_audit(engine: Running, tmp_path: Path) -> None:
    """Fifty users at midnight are five from the first second on, and locust's fifth is a sender."""
    report = tmp_path / "load-report"
    options = f"--processes 2 --report {shlex.quote(str(report))}"
    made = subprocess.run(
        [
            *("make", "--no-print-directory", "--old-file=.venv/.ready", "load"),
            *(f"BIN={Path(sys.executable).parent}", f"URL={engine.base_url}", f"DATA_DIR={engine.data_dir}"),
            *("USERS=50", "EVE_S=6", f"LOAD_OPTIONS={options}"),
        ],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "40"},
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert "FAILED" not in made.stdout
    assert "ok     all balances sum to zero" in made.stdout
    # In an ASCII locale a table has other edges.
    assert re.search(r"^[│|] claimed", made.stdout, re.MULTILINE)
    assert re.search(r"^[│|] look at the claims ", made.stdout, re.MULTILINE), "a narrow terminal makes it say less"
    (folder,) = report.iterdir()
    assert f"The report: {folder}/report.html" in made.stdout
    assert "<html" in (folder / "report.html").read_text(encoding="utf-8")
    by_name = {row["Name"]: int(row["Request Count"]) for row in rows(report, "eve_stats.csv")}
    assert {"claim, group", "claim again, group", "claim, rain", "look at the claims", "deposit"} <= set(by_name)
    assert by_name["become a merchant"] == by_name["deposit"]
    assert sum(int(row["Failure Count"]) for row in rows(report, "eve_stats.csv")) == 0
    # Both processes' last numbers are in the report: at most a claim of each of the last five users was cut off.
    claims = sum(count for name, count in by_name.items() if name.startswith("claim"))
    assert claims <= sum(_counted(made.stdout).values()) <= claims + 5


@pytest.mark.timeout(180)
def test_known_senders_send_what_persons_may_and_stay_what_they_are(engine: Running, tmp_path: Path) -> None:
    admin = bearer(engine, "root", "admin")
    for sender in ("alice", "bob"):
        headers = {**admin, "Idempotency-Key": f"fund-{sender}"}
        body = {"amount_fen": 10_000_000}
        assert httpx.post(f"{engine.base_url}/v1/wallets/{sender}/deposits", json=body, headers=headers).is_success
    ended = load(engine.base_url, tmp_path / "r", *by_a_backend(engine, "alice,bob"))
    assert ended.returncode == 0, ended.stdout
    assert "FAILED" not in ended.stdout
    assert {"claim, group", "claim, rain"} <= {row["Name"] for row in rows(tmp_path / "r", "eve_stats.csv")}
    with httpx.Client(base_url=engine.base_url, headers=admin) as http:
        for sender in ("alice", "bob"):
            sent = http.get(f"/v1/users/{sender}/packets?role=sent").json()["packets"]
            assert max(http.get(f"/v1/packets/{one['packet_id']}").json()["count"] for one in sent) == 100
            assert http.get(f"/v1/accounts/{sender}").json()["profile"]["kind"] == "person"


def test_a_run_that_can_do_nothing_is_a_sentence_and_no_table(engine: Running, tmp_path: Path) -> None:
    ended = load(engine.base_url, tmp_path / "r", *by_a_backend(engine, "poor"))
    assert ended.returncode == 1
    assert ended.stdout == (
        "load: poor cannot send: /v1/packets was answered 409: The wallet holds less than the packet's total.\n"
    )


def test_two_amounts_for_one_share_end_the_run_at_once(tmp_path: Path) -> None:
    with front("two amounts") as url:
        ended = load(url, tmp_path / "r", *BACKEND, "--users", "10", "--eve-s", "80", "--processes", "2")
    assert ended.returncode == 1
    assert "CONTRADICTION" in ended.stdout
    assert "  midnight ..." not in ended.stdout, "it went on"


def test_being_busy_is_counted_apart_and_asked_again(tmp_path: Path) -> None:
    with front("busy") as url:
        ended = load(url, tmp_path / "r", *BACKEND, "--users", "10", "--eve-s", "4", "--processes", "1")
    assert ended.returncode == 0, ended.stdout
    by_name = {row["Name"]: row for row in rows(tmp_path / "r", "eve_stats.csv")}
    assert int(by_name["refused: busy"]["Request Count"]) > 0
    assert int(by_name["refused: busy"]["Failure Count"]) == 0
    assert int(by_name["claim, rain"]["Failure Count"]) == 0
    assert "Not audited" in ended.stdout
    (folder,) = (tmp_path / "r").iterdir()
    assert not [path for path in folder.iterdir() if "secret-word" in path.read_text(encoding="utf-8")], (
        "a token is in the report"
    )


@pytest.mark.parametrize("more", [BACKEND, ("--data-dir", "nothing-was-ever-here")])
def test_no_server_is_said_in_a_sentence(tmp_path: Path, port: int, more: tuple[str, ...]) -> None:
    url = f"http://127.0.0.1:{port}"
    ended = load(url, tmp_path / "r", *more)
    assert ended.returncode == 1
    assert ended.stdout.startswith(f"load: No server answers at {url} ({os.strerror(errno.ECONNREFUSED)})")
    assert ended.stdout.count("\n") == 1
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--url", "http://192.0.2.1", *BACKEND), "--allow-remote 192.0.2.1"),
        (("--users", "3", *BACKEND), "at least 10 users"),
        (("--act-token", "backend"), "--admin-token"),
    ],
)
def test_mistakes_are_said_in_a_sentence(tmp_path: Path, more: tuple[str, ...], sentence: str) -> None:
    with front("honest") as url:
        ended = load(url, tmp_path / "r", *more)
    assert ended.returncode == 1
    assert ended.stdout.startswith("load: ")
    assert sentence in ended.stdout
    assert ended.stdout.count("\n") == 1


def test_locust_alone_refuses_another_machine() -> None:
    locust = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        "loadtest/load/locustfile.py",
        "--headless",
        "--host",
        "http://192.0.2.1",
    ]
    ended = subprocess.run(locust, capture_output=True, encoding="utf-8", timeout=60, check=False, cwd=ROOT)
    assert ended.returncode == 1
    assert "--allow-remote 192.0.2.1" in ended.stderr


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
async def test_stopping_leaves_nothing(tmp_path: Path, stop: signal.Signals) -> None:
    with front("honest") as url, started(words(url, tmp_path / "r", *BACKEND, "--processes", "2")) as process:
        all_of_them = psutil.Process(process.pid)

        def descendants() -> list[psutil.Process]:
            found = all_of_them.children(recursive=True)
            return found if len(found) == 3 else []  # locust's master and two workers

        below = await wait_until(descendants, timeout_s=30, what="locust and its workers running")
        process.send_signal(stop)
        output, _ = process.communicate(timeout=40)
        assert process.returncode == 130
        assert "nothing is left running" in output
        await wait_until(lambda: not any(one.is_running() for one in below), timeout_s=5, what="all having ended")


@contextmanager
def started(argv: list[str]) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(argv, stdout=subprocess.PIPE, encoding="utf-8", cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def _counted(output: str) -> dict[str, int]:
    """The table of claims by outcome, which follows its title: the one with two columns. ASCII has other edges."""
    table = output[output.index("Claims by outcome") :]
    cells = re.findall(r"^[│|] (\w+) +[│|] +([\d,]+) [│|]$", table, re.MULTILINE)
    return {outcome: int(count.replace(",", "")) for outcome, count in cells}
