"""What the tests are run under in `make test-hostile`: clocks that show another moment, for every process alike."""

import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from engine.calendar.china_time import CHINA
from tests.hostile.clock import MISSING, main
from tests.hostile.realtime import realtime_missing
from tests.hostile.uptime import uptime_missing

MOMENT = datetime(2031, 12, 31, 23, 59, tzinfo=CHINA)
SEEN_LATER_MAX = timedelta(minutes=2)

# A few lines that print what time it is: of a program, of this one, of what it starts, and of its two servers.
_PRINT_TIMES = """
import asyncio, os, subprocess, sys, threading, time
from pathlib import Path

import asyncpg

from engine.embedded import servers
from engine.lanes.clients import command, redis_client
from engine.embedded.servers import EmbeddedPostgres, EmbeddedRedis
from tests.support.fast_postgres import UNSAFE_BUT_FAST

async def ask(postgres_url, redis_url):
    connection = await asyncpg.connect(postgres_url)
    print((await connection.fetchval("SELECT now()")).timestamp())
    await connection.close()
    async with redis_client(redis_url, connections_max=1, timeout_s=5.0) as client:
        print(int((await command(client, "TIME"))[0]))

print(time.time())
subprocess.run([sys.executable, "-c", "import time; print(time.time())"], env={"LC_ALL": "C"}, check=True)
subprocess.run(["date", "+%s"], env={}, check=True)
with servers.hold(Path(sys.argv[1])) as held:
    postgres, redis = EmbeddedPostgres(held, options=UNSAFE_BUT_FAST), EmbeddedRedis(held)
    try:
        postgres.start()
        redis.start()
        asyncio.run(ask(postgres.url, redis.url))
    finally:
        redis.stop()
        postgres.stop()
servers.remove(Path(sys.argv[1]))
# Waits are as long as ever.
begin_s = time.monotonic()
assert not threading.Event().wait(0.1)
assert 0.1 <= time.monotonic() - begin_s < 60
"""


@pytest.fixture
def needs_realtime() -> None:
    if reason := realtime_missing():
        pytest.skip(reason)


@pytest.fixture
def needs_uptime() -> None:
    if reason := uptime_missing():
        pytest.skip(reason)


def under(option: str, value: str, *argv: str) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-m", "tests.hostile.clock", option, value, "--", *argv]
    return subprocess.run(words, capture_output=True, encoding="utf-8", timeout=100, check=False)


@pytest.mark.long
@pytest.mark.usefixtures("needs_realtime")
def test_programs_and_servers_all_see_the_moment(quick_path: Path) -> None:
    done = under("--realtime", MOMENT.isoformat(), sys.executable, "-u", "-c", _PRINT_TIMES, str(quick_path / "data"))
    assert (done.returncode, done.stderr) == (0, "")
    times = [datetime.fromtimestamp(float(line), CHINA) for line in done.stdout.split()]
    assert len(times) == 5
    assert all(MOMENT - timedelta(seconds=1) <= at <= MOMENT + SEEN_LATER_MAX for at in times), times
    assert datetime.now(CHINA) < MOMENT  # the machine's own clock is where it was


@pytest.mark.usefixtures("needs_realtime")
def test_a_clock_is_set_while_the_command_runs() -> None:
    """As the plugin does it: in the process that runs under the clock."""
    code = (
        "import time; from datetime import datetime; from tests.hostile.realtime import own_realtime\n"
        f"own_realtime().set(datetime.fromisoformat({(MOMENT - timedelta(days=400)).isoformat()!r}))\n"
        "print(time.time())"
    )
    done = under("--realtime", MOMENT.isoformat(), sys.executable, "-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    at = datetime.fromtimestamp(float(done.stdout), CHINA)
    assert timedelta() <= at - (MOMENT - timedelta(days=400)) <= SEEN_LATER_MAX


@pytest.mark.long
@pytest.mark.usefixtures("needs_realtime")
def test_a_test_has_a_day_to_itself_however_late_it_begins() -> None:
    code = "import asyncio; from tests.support.days import whole_day; print(asyncio.run(whole_day()))"
    begin = MOMENT.replace(hour=23, minute=59, second=57)
    done = under("--realtime", begin.isoformat(), sys.executable, "-c", code)
    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", "2032-01-01")
    done = under("--realtime", (begin - timedelta(minutes=5)).isoformat(), sys.executable, "-c", code)
    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", "2031-12-31")


@pytest.mark.usefixtures("needs_uptime")
def test_a_machine_has_just_been_started() -> None:
    code = "import time, psutil; print(time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), time.time())"
    done = under("--uptime", "2", sys.executable, "-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    monotonic_s, boottime_s, realtime_s = map(float, done.stdout.split())
    assert 2 <= monotonic_s < 60
    assert 2 <= boottime_s < 60
    assert abs(datetime.now(CHINA).timestamp() - realtime_s) < SEEN_LATER_MAX.total_seconds()


@pytest.mark.usefixtures("needs_realtime")
def test_the_commands_exit_code_is_kept() -> None:
    assert main(["--realtime", MOMENT.isoformat(), "--", "sh", "-c", "exit 3"]) == 3


def test_what_cannot_be_had_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    assert main(["--realtime", MOMENT.isoformat(), "--uptime", "2", "--", "true"]) == MISSING
    said = capsys.readouterr().err
    assert said.startswith("skipped: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("moment", ["yesterday", "2027-01-01T00:00:00"])
def test_a_moment_that_is_none_is_refused(moment: str) -> None:
    with pytest.raises(SystemExit):
        main(["--realtime", moment, "--", "true"])
