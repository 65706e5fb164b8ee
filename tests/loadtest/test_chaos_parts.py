"""The parts of chaos: the schedule, the network that can be cut, the disk that can be full, the processes."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.chaos import disk, schedule
from loadtest.chaos.disk import SmallDisk
from loadtest.chaos.processes import Family, send
from loadtest.chaos.proxy import DELAY_S, Network, _reset
from loadtest.chaos.schedule import CUTS, LINKS, LOSSES, PROCESSES, SERVERS, Fault, Kind
from tests.support.needs import AS_ROOT, skip_for_want_of
from tests.support.waiting import wait_until

ANSWER_S_MAX = 0.2
"""How long a test waits for an answer that must not come."""


@given(st.integers(), st.integers(0, 200), st.booleans(), st.booleans())
def test_a_seed_gives_one_schedule(seed: int, kills: int, full_disk: bool, lose_redis: bool) -> None:
    faults = schedule.make(seed, kills, full_disk=full_disk, lose_redis=lose_redis)
    assert schedule.make(seed, kills, full_disk=full_disk, lose_redis=lose_redis) == faults
    assert sum(fault.kind is Kind.KILL for fault in faults) == kills
    assert any(fault.kind is Kind.FULL_DISK for fault in faults) == full_disk
    assert any(fault.kind in LOSSES for fault in faults) == lose_redis
    plain = [fault for fault in faults if fault.kind is not Kind.FULL_DISK and fault.kind not in LOSSES]
    assert plain == schedule.make(seed, kills)
    for fault in faults:
        assert 0 <= fault.after_s < 2
        assert 0 <= fault.lasts_s <= 3
        assert fault.target in (LINKS if fault.kind in CUTS else PROCESSES + SERVERS)


def test_seeds_differ_and_each_target_has_its_turn() -> None:
    assert schedule.make(1, 25) != schedule.make(2, 25)
    for seed in range(5):
        faults = schedule.make(seed, 25)
        assert {fault.target for fault in faults if fault.kind is Kind.KILL} == {*PROCESSES, *SERVERS}
        assert {fault.kind for fault in faults} >= {Kind.KILL, Kind.STOP}
        assert sum(fault.after_s for fault in faults) < 120


def test_a_fault_is_told_in_a_line() -> None:
    assert Fault(after_s=1.5, kind=Kind.KILL, target="redis").line() == "+1.50 s  kill redis"
    patient = Fault(after_s=1.5, kind=Kind.KILL, target="redis", patience_s=5.0)
    assert patient.line() == "+1.50 s  kill redis at work"
    cut = Fault(after_s=0.0, kind=Kind.MUTE, target="persist/postgres", lasts_s=2.25)
    assert cut.line() == "+0.00 s  mute persist/postgres for 2.25 s"


@pytest.fixture
def upstream() -> Iterator[Path]:
    """The unix socket of the server behind a link, in a folder whose name is short whatever TMPDIR is."""
    with tempfile.TemporaryDirectory(prefix="hongbao-test-", dir="/tmp") as folder:
        yield Path(folder) / "echo"


@asynccontextmanager
async def echoing(upstream: Path, heard: list[bytes]) -> AsyncIterator[None]:
    """A server that answers each piece with itself."""

    open_now, none_open = 0, asyncio.Event()

    async def echo(come_in: asyncio.StreamReader, go_out: asyncio.StreamWriter) -> None:
        nonlocal open_now
        open_now += 1
        none_open.clear()
        with contextlib.suppress(ConnectionError):
            while piece := await come_in.read(1_000):
                heard.append(piece)
                go_out.write(piece)
        go_out.close()
        open_now -= 1
        if not open_now:
            none_open.set()

    async with await asyncio.start_unix_server(echo, upstream):
        yield
        if open_now:
            await none_open.wait()


class Caller:
    """A client of a link. Used as an async context manager."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> "Caller":
        self._come_in, self._go_out = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._go_out.transport.abort()

    async def ask(self, words: bytes) -> bytes:
        """Say something and wait for the answer; b"" when the other end hangs up. Raises ConnectionError."""
        self._go_out.write(words)
        return await self._come_in.read(1_000)

    async def is_silent(self, words: bytes) -> bool:
        """Whether nothing comes back for a while."""
        self._go_out.write(words)
        return await self.hears_nothing()

    async def hears_nothing(self) -> bool:
        """Whether nothing comes for a while, not even an end."""
        try:
            await asyncio.wait_for(self._come_in.read(1_000), ANSWER_S_MAX)
        except TimeoutError:
            return True
        return False

    async def hears(self) -> bytes:
        """What comes next."""
        return await self._come_in.read(1_000)


@pytest.fixture
def network(upstream: Path) -> Iterator[Network]:
    with Network({"persist/redis": upstream, "sweep/redis": upstream}) as opened:
        yield opened


async def test_a_whole_link_passes_everything(network: Network, upstream: Path) -> None:
    async with echoing(upstream, []), Caller(network.ports["persist/redis"]) as caller:
        assert await caller.ask(b"one") == b"one"
        assert await caller.ask(b"two") == b"two"


async def test_a_server_that_is_away_is_a_reset(network: Network) -> None:
    with pytest.raises(ConnectionError):
        async with Caller(network.ports["persist/redis"]) as caller:
            await caller.ask(b"anyone")


async def test_a_server_that_hangs_up_is_an_end(network: Network, upstream: Path) -> None:
    async def leave(_: asyncio.StreamReader, go_out: asyncio.StreamWriter) -> None:
        go_out.close()

    async with await asyncio.start_unix_server(leave, upstream), Caller(network.ports["persist/redis"]) as caller:
        assert await caller.hears() == b""


async def test_a_refusing_link_resets_what_is_open_and_what_comes(network: Network, upstream: Path) -> None:
    port = network.ports["persist/redis"]
    async with echoing(upstream, []), Caller(port) as caller:
        assert await caller.ask(b"before") == b"before"
        network.cut("persist/redis", Kind.REFUSE)
        with pytest.raises(ConnectionError):
            await caller.ask(b"during")
        with pytest.raises(ConnectionError):
            async with Caller(port) as late:
                await late.ask(b"during")
        network.restore("persist/redis")
        async with Caller(port) as later:
            assert await later.ask(b"after") == b"after"


async def test_a_reset_link_takes_new_connections_at_once(network: Network, upstream: Path) -> None:
    port = network.ports["persist/redis"]
    async with echoing(upstream, []), Caller(port) as caller:
        assert await caller.ask(b"before") == b"before"
        network.cut("persist/redis", Kind.RESET)
        with pytest.raises(ConnectionError):
            await caller.ask(b"during")
        async with Caller(port) as late:
            assert await late.ask(b"after") == b"after"


async def test_a_silent_link_delivers_afterwards(network: Network, upstream: Path) -> None:
    heard: list[bytes] = []
    async with echoing(upstream, heard), Caller(network.ports["persist/redis"]) as caller:
        network.cut("persist/redis", Kind.SILENCE)
        assert await caller.is_silent(b"hello")
        assert heard == []
        network.restore("persist/redis")
        assert await caller.hears() == b"hello"


async def test_a_silent_link_hides_that_the_server_has_hung_up(network: Network, upstream: Path) -> None:
    hang_up, connected = asyncio.Event(), asyncio.Event()

    async def leave(_: asyncio.StreamReader, go_out: asyncio.StreamWriter) -> None:
        connected.set()
        await hang_up.wait()
        go_out.close()

    async with await asyncio.start_unix_server(leave, upstream), Caller(network.ports["persist/redis"]) as caller:
        await connected.wait()
        network.cut("persist/redis", Kind.SILENCE)
        hang_up.set()
        assert await caller.hears_nothing()
        network.restore("persist/redis")


async def test_a_mute_link_delivers_requests_and_loses_answers(network: Network, upstream: Path) -> None:
    heard: list[bytes] = []
    async with echoing(upstream, heard), Caller(network.ports["persist/redis"]) as caller:
        assert await caller.ask(b"before") == b"before"
        network.cut("persist/redis", Kind.MUTE)
        assert await caller.is_silent(b"pay")
        await wait_until(lambda: heard == [b"before", b"pay"], what="the delivery")
        network.restore("persist/redis")
        with pytest.raises(ConnectionError):
            await caller.hears()


async def test_a_connection_that_has_ended_can_be_cut() -> None:
    """It may end in the moment in which a link is restored."""
    server = await asyncio.start_server(lambda _, back: back.close(), "127.0.0.1", 0)
    async with server:
        _, go_out = await asyncio.open_connection(*server.sockets[0].getsockname())
        connection = go_out.get_extra_info("socket")
        go_out.transport.abort()
        await wait_until(lambda: connection.fileno() < 0, what="its end")
        _reset(go_out)


async def test_a_delayed_link_is_late(network: Network, upstream: Path) -> None:
    async with echoing(upstream, []), Caller(network.ports["persist/redis"]) as caller:
        network.cut("persist/redis", Kind.DELAY)
        started_s = time.monotonic()
        assert await caller.ask(b"slowly") == b"slowly"
        assert time.monotonic() - started_s >= 2 * DELAY_S


async def test_one_link_is_cut_and_the_others_are_not(network: Network, upstream: Path) -> None:
    network.cut("persist/redis", Kind.REFUSE)
    async with echoing(upstream, []), Caller(network.ports["sweep/redis"]) as caller:
        assert await caller.ask(b"still here") == b"still here"


def test_what_is_no_cut_cannot_be_done_to_a_link(network: Network) -> None:
    with pytest.raises(ValueError, match="kill does not cut a link"):
        network.cut("persist/redis", Kind.KILL)


def test_a_network_that_is_over_takes_nothing(upstream: Path) -> None:
    with Network({"persist/redis": upstream}) as network:
        port = network.ports["persist/redis"]
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", port))


@contextmanager
def running(*words: str) -> Iterator["subprocess.Popen[str]"]:
    """A program for as long as the block; it is spoken to by lines."""
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.root
@pytest.mark.programs("unshare")
async def test_a_small_disk_is_full_and_has_room_again(tmp_path: Path) -> None:
    if (reason := disk.why_not()) is not None:
        skip_for_want_of("leave to mount", f"{AS_ROOT}, not in a container without CAP_SYS_ADMIN; {reason}")
    small = SmallDisk(tmp_path / "disk")
    code = (
        "import sys\n"
        "for line in sys.stdin:\n"
        "    try:\n"
        f"        open({str(small.path)!r} + '/log', 'ab', buffering=0).write(b'x' * 100_000)\n"
        "        print('ok', flush=True)\n"
        "    except OSError as error:\n"
        "        print(error.strerror, flush=True)\n"
    )
    with running(*small.command([sys.executable, "-c", code])) as process:

        def write() -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            print(file=process.stdin, flush=True)
            return process.stdout.readline().strip()

        assert write() == "ok"
        small.fill(process.pid)
        await wait_until(lambda: write() == os.strerror(errno.ENOSPC), what="a full disk")
        small.free(process.pid)
        assert write() == "ok"
        assert not (small.path / "log").exists()  # nobody else sees it


def test_a_disk_for_root_only_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1_000)
    assert disk.why_not() == "only root can mount a small disk"


async def test_only_the_supervisors_own_children_are_found(tmp_path: Path) -> None:
    own = psutil.Process().pid
    sleeper = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    with running(sys.executable, "-c", f"{sleeper}; print(flush=True); time.sleep(60)") as child:
        assert child.stdout is not None
        child.stdout.readline()
        (tmp_path / "persist.pid").write_text(f"{child.pid}\n", encoding="utf-8")
        found = Family(tmp_path, own).find("persist")
        assert found[0].pid == child.pid
        assert len(found) == 2
        assert Family(tmp_path, own + 1).find("persist") == []
        assert Family(tmp_path, own).find("sweep") == []
        send(found, signal.SIGSTOP)
        await wait_until(
            lambda: all(process.status() == psutil.STATUS_STOPPED for process in found), what="their standing still"
        )
        send(found, signal.SIGKILL)
        psutil.wait_procs(found[1:], timeout=5)
    send(found, signal.SIGCONT)  # to nobody
    assert Family(tmp_path, own).find("persist") == []
