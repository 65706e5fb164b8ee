"""The supervisor: restarts what dies and says so, stops in order, and leaves nothing behind."""

import asyncio
import errno
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import orjson
import psutil
import pytest
from structlog.testing import capture_logs

from engine.errors import OperatorError
from engine.supervision.backoff import Backoff
from engine.supervision.child import Command, Process
from engine.supervision.ports import held
from engine.supervision.service import Worker
from engine.supervision.supervisor import Supervisor
from tests.support.supervised import SLEEPER, STUBBORN, is_alive, supervised
from tests.support.waiting import wait_until

STOPPED_BY = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]


def sleeper(name: str) -> Worker:
    return Worker(name=name, argv=(sys.executable, "-c", SLEEPER))


def pids_of(process_id: int) -> list[int]:
    return [child.pid for child in psutil.Process(process_id).children(recursive=True)]


async def test_a_killed_child_is_started_again_and_the_log_says_so(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with Supervisor(tmp_path) as supervisor:
            await supervisor.start(sleeper("worker"))
            first = supervisor.pids()["worker"]
            os.kill(first, signal.SIGKILL)
            await wait_until(lambda: supervisor.pids().get("worker", first) != first, what="a new child")
            second = supervisor.pids()["worker"]
            assert (tmp_path / "worker.pid").read_text(encoding="utf-8") == f"{second}\n"
            await wait_until(lambda: any(line["event"] == "child restarted" for line in logs), what="the log line")
    ended = next(line for line in logs if line["event"] == "child ended")
    assert ended["child"] == "worker"
    assert ended["pid"] == first
    assert ended["signal"] == "SIGKILL"
    assert ended["restart_in_s"] == Backoff.first_s
    assert not is_alive(second)
    assert not (tmp_path / "worker.pid").exists()


READS_AGAIN = (
    "import pathlib, signal, sys, time\n"
    "signal.signal(signal.SIGHUP, lambda *_: pathlib.Path(sys.argv[1]).write_text('again'))\n"
    "pathlib.Path(sys.argv[1]).write_text('once')\n"
    "while True: time.sleep(0.01)"
)


async def test_a_hangup_makes_those_read_again_that_can_and_stops_nobody(tmp_path: Path) -> None:
    said = tmp_path / "said"
    reader = Worker(
        name="reader",
        argv=(sys.executable, "-c", READS_AGAIN, str(said)),
        reload_signal=signal.SIGHUP,
        ready=lambda: said.exists() and said.read_text(encoding="utf-8") == "once",
    )
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start(reader, sleeper("other"))
        before = supervisor.pids()
        os.kill(os.getpid(), signal.SIGHUP)
        await wait_until(lambda: said.read_text(encoding="utf-8") == "again", what="the second reading")
        assert supervisor.pids() == before


def test_a_terminal_that_closes_stops_everything(tmp_path: Path) -> None:
    """Nobody is left who could press Ctrl-C."""
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.supervised", str(tmp_path), "sleeper"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    ) as process:
        os.close(theirs)
        assert process.stdout is not None
        pids = orjson.loads(process.stdout.readline()).values()
        os.close(ours)
        process.send_signal(signal.SIGHUP)  # as the kernel does to the session that has it for its terminal
        assert process.wait(30) == 0
    assert not any(map(is_alive, pids))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_stop_signal_is_not_lost_while_a_child_starts() -> None:
    """Between the interpreter's start and exec Python takes a SIGINT for itself, and exec forgets that it came."""

    def about(pid: int) -> tuple[str, bool]:
        """The program's name, and whether it would take a SIGINT for itself at this moment."""
        lines = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        )
        blocked, caught = (bool(int(lines[name], 16) & 1 << signal.SIGINT - 1) for name in ("SigBlk", "SigCgt"))
        return lines["Name"], caught and not blocked

    seen_before = 0
    for _ in range(50):  # on one core the first look may come when the program runs already
        process = Process(Command(argv=("/bin/sleep", "600"), stop_signal=signal.SIGINT))
        try:
            seen = [about(process.pid)]
            while seen[-1][0] != "sleep":
                seen.append(about(process.pid))
            assert [name for name, takes_it in seen if takes_it] == []
            process.signal(signal.SIGINT)
            assert process.wait(30.0)
        finally:
            process.kill()
        seen_before += len(seen) - 1
        if seen_before:
            break
    assert seen_before


async def test_a_child_that_always_ends_is_started_ever_more_rarely(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with Supervisor(tmp_path) as supervisor:
            await supervisor.start(Worker(name="worker", argv=(sys.executable, "-c", "raise SystemExit(3)")))
            await wait_until(lambda: sum(line["event"] == "child ended" for line in logs) >= 3, what="three ends")
    ended = [line for line in logs if line["event"] == "child ended"][:3]
    assert [line["exit_code"] for line in ended] == [3, 3, 3]
    assert [line["restart_in_s"] for line in ended] == [0.2, 0.4, 0.8]


def test_backoff_doubles_to_its_bound_and_forgets_after_a_healthy_run() -> None:
    backoff = Backoff()
    delays = [backoff.delay_s(ran_s=1.0) for _ in range(8)]
    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert backoff.delay_s(ran_s=Backoff.healthy_s) == 0.2
    assert backoff.delay_s(ran_s=1.0) == 0.4


async def test_later_starts_stop_earlier(tmp_path: Path) -> None:
    code = (
        "import pathlib, signal, sys, time\n"
        "def end(*_):\n"
        "    with open(sys.argv[1], 'a') as file: file.write(sys.argv[2] + '\\n')\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "pathlib.Path(sys.argv[1] + sys.argv[2]).touch()\n"
        "time.sleep(600)\n"
    )
    ends = tmp_path / "ends"

    def worker(name: str) -> Worker:
        argv = (sys.executable, "-c", code, str(ends), name)
        return Worker(name=name, argv=argv, ready=lambda: Path(f"{ends}{name}").exists())

    async with Supervisor(tmp_path / "run") as supervisor:
        await supervisor.start(worker("persist"))
        await supervisor.start(worker("sweep"))
        await supervisor.start(worker("serve-0"), worker("serve-1"))
    order = ends.read_text(encoding="utf-8").split()
    assert sorted(order[:2]) == ["serve-0", "serve-1"]
    assert order[2:] == ["sweep", "persist"]


@pytest.mark.parametrize("signal_number", STOPPED_BY)
async def test_whatever_ends_the_supervisor_ends_its_children(tmp_path: Path, signal_number: signal.Signals) -> None:
    with supervised(tmp_path, "sleeper", "stubborn") as supervisor:
        children = pids_of(supervisor.pid)
        recorded = [
            int((tmp_path / "run" / f"{name}.pid").read_text(encoding="utf-8")) for name in ("sleeper", "stubborn")
        ]
        assert sorted(children) == sorted(recorded)
        supervisor.send_signal(signal_number)
        await wait_until(lambda: not is_alive(supervisor.pid), what="the supervisor ending")
        await wait_until(lambda: not any(map(is_alive, children)), what="every child ending")
        expected = -signal.SIGKILL if signal_number == signal.SIGKILL else 0
        assert supervisor.wait() == expected
        left = list((tmp_path / "run").glob("*.pid"))
        assert bool(left) == (signal_number == signal.SIGKILL)


async def test_what_is_done_between_two_stops_comes_in_its_turn_and_may_fail(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    async def fail() -> None:
        seen.append(sorted(name for name, pid in pids.items() if is_alive(pid)))
        raise ValueError("a mistake of ours")

    with capture_logs() as logs:
        async with Supervisor(tmp_path) as supervisor:
            await supervisor.start(sleeper("server"))
            supervisor.in_between(fail)
            await supervisor.start(sleeper("worker"))
            pids = supervisor.pids()
    assert seen == [["server"]]
    assert [name for name, pid in pids.items() if is_alive(pid)] == []
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["the work between two stops has failed"]


async def test_a_supervisor_that_cannot_log_stops_all_the_same(tmp_path: Path) -> None:
    with supervised(tmp_path, "sleeper") as supervisor:
        assert supervisor.stdout is not None
        children = pids_of(supervisor.pid)
        supervisor.stdout.close()
        supervisor.send_signal(signal.SIGTERM)
        await wait_until(lambda: not any(map(is_alive, children)), what="every child ending")
        await wait_until(lambda: not is_alive(supervisor.pid), what="the supervisor ending")


async def test_a_child_that_ignores_its_stop_signal_is_killed_in_time(tmp_path: Path) -> None:
    log_path = tmp_path / "log"
    stubborn = Worker(
        name="stubborn",
        argv=(sys.executable, "-c", STUBBORN),
        log_path=log_path,
        stop_timeout_s=0.2,
        ready=lambda: log_path.stat().st_size > 0,  # it ignores the signal from here on
    )
    with capture_logs() as logs:
        async with Supervisor(tmp_path / "run") as supervisor:
            await supervisor.start(stubborn)
            pid = supervisor.pids()["stubborn"]
    assert not is_alive(pid)
    assert [line["event"] for line in logs] == ["child killed"]


async def test_a_child_that_does_not_start_takes_the_others_down(tmp_path: Path) -> None:
    log_path = tmp_path / "log"
    broken = Worker(
        name="serve",
        argv=(sys.executable, "-c", "raise SystemExit('no such table')"),
        log_path=log_path,
        ready=lambda: False,
    )
    others: list[int] = []

    async def supervise() -> None:
        async with Supervisor(tmp_path / "run") as supervisor:
            await supervisor.start(sleeper("persist"))
            others.extend(supervisor.pids().values())
            await supervisor.start(broken)

    with pytest.raises(OperatorError, match=rf"^serve did not start: no such table \(log: {log_path}\)\.$"):
        await supervise()
    assert others
    assert not any(map(is_alive, others))


async def test_an_exception_in_the_block_and_a_cancellation_come_through(tmp_path: Path) -> None:
    children: list[int] = []
    started = asyncio.Event()

    async def supervise(*, fail: bool) -> None:
        async with Supervisor(tmp_path / "run") as supervisor:
            await supervisor.start(sleeper("worker"))
            children.extend(supervisor.pids().values())
            if fail:
                raise RuntimeError("from the block")
            started.set()
            await supervisor.wait()

    with pytest.raises(RuntimeError, match="from the block"):
        await supervise(fail=True)
    task = asyncio.create_task(supervise(fail=False))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(children) == 2
    assert not any(map(is_alive, children))


async def test_a_stop_signal_ends_the_block_as_if_it_had_returned(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start(sleeper("worker"))
        pids = supervisor.pids()
        os.kill(os.getpid(), signal.SIGTERM)
        await supervisor.wait()
        pytest.fail("the wait returned")
    assert not is_alive(pids["worker"])
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


def test_a_taken_port_is_found_even_when_its_owner_would_share_it() -> None:
    with socket.socket() as owner:
        owner.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        owner.bind(("127.0.0.1", 0))
        owner.listen()
        port = owner.getsockname()[1]
        why = re.escape(os.strerror(errno.EADDRINUSE))
        with (
            pytest.raises(OperatorError, match=rf"^Port {port} of 127\.0\.0\.1 cannot be used \({why}\)"),
            held("127.0.0.1", port),
        ):
            pass


def test_a_port_that_is_held_is_for_those_who_share_it_and_refuses_until_they_listen() -> None:
    with held("127.0.0.1", 0) as port, socket.socket() as stranger:
        assert port > 0
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
        with pytest.raises(OSError, match=re.escape(os.strerror(errno.EADDRINUSE))):
            stranger.bind(("127.0.0.1", port))
        for _ in range(2):  # one that ends leaves the port to its successor
            with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port), timeout=5):
                pass


def test_an_address_that_is_not_ours_is_refused() -> None:
    why = re.escape(os.strerror(errno.EADDRNOTAVAIL))
    with pytest.raises(OperatorError, match=why), held("192.0.2.1", 8080):
        pass
