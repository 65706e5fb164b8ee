"""The doctor: what it finds on real servers in good and in bad condition, and that it always answers in lines."""

import os
import pty
import select
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import orjson
import pytest
from redis.asyncio import Redis

from engine.doctor import machine_checks
from engine.doctor.doctor import examine, is_healthy
from engine.doctor.lines import Level, Line, place_of, without_secrets
from engine.embedded import servers
from engine.engine import Engine
from engine.lanes import keys
from engine.lanes.clients import command
from engine.ledger import schema
from engine.settings import Settings
from tests.support.commands import environment, hongbao, upped
from tests.support.scenes import changed, persisting, send

UNSAFE = {"postgres fsync", "postgres full_page_writes"}
"""What the tests' Postgres is set to for speed."""


async def look(settings: Settings) -> dict[str, Line]:
    lines = await examine(settings, is_embedded=False)
    assert len({line.name for line in lines}) == len(lines)
    assert all(bool(line.advice) == (line.level is not Level.OK) for line in lines)
    return {line.name: line for line in lines}


def levels(found: dict[str, Line], level: Level) -> set[str]:
    return {name for name, line in found.items() if line.level is level}


async def test_an_engine_in_good_condition(engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "engine.doctor.redis_checks._PING_MS_MAX", 1_000.0
    )  # a machine that runs tests answers when it can
    async with persisting(settings):
        found = await look(settings)
    assert levels(found, Level.PROBLEM) == UNSAFE
    assert levels(found, Level.WARNING) <= {"open files"}
    for name in (
        "redis",
        "redis version",
        "redis scripts",
        "redis latency",
        "redis clock",
        "postgres schema",
        "lane 1",
    ):
        assert found[name].level is Level.OK
    assert found["redis log"].found == "on, appendfsync everysec"
    assert found["redis eviction"].found == "noeviction"
    assert found["acknowledging"].found == "HONGBAO_ACK=memory"
    assert found["quarantine"].found == "empty"
    assert found["lane 0"].found.startswith("at 0, ledger at 0: 0 behind by 0.0 s; backlog 0 of 10,000")


@asynccontextmanager
async def configured(redis: Redis, **values: str) -> AsyncIterator[None]:
    """The session's server with other settings, for as long as the block runs."""
    before = {}
    for name in values:
        told = await command(redis, "CONFIG", "GET", name.replace("_", "-"))
        before[name] = next(iter(told.values())) if isinstance(told, dict) else told[1]
    try:
        for name, value in values.items():
            await command(redis, "CONFIG", "SET", name.replace("_", "-"), value)
        yield
    finally:
        for name, value in before.items():
            await command(redis, "CONFIG", "SET", name.replace("_", "-"), value)


CONDITIONS = [
    ({"maxmemory_policy": "allkeys-lru"}, ("redis eviction", Level.PROBLEM, "allkeys-lru")),
    ({"appendonly": "no"}, ("redis log", Level.PROBLEM, "off")),
    ({"appendfsync": "no"}, ("redis log", Level.WARNING, "appendfsync no")),
    ({"maxmemory": "100"}, ("redis memory", Level.PROBLEM, "of 0 MB (maxmemory)")),
]


@pytest.mark.parametrize(("values", "expected"), CONDITIONS, ids=[str(row[0]) for row in CONDITIONS])
async def test_a_redis_that_is_set_wrongly(
    redis: Redis, settings: Settings, values: dict[str, str], expected: tuple[str, Level, str]
) -> None:
    name, level, told = expected
    async with configured(redis, **values):
        line = (await look(settings))[name]
    assert (line.level, told in line.found) == (level, True), line


async def test_acknowledging_needs_what_the_server_cannot_promise(redis: Redis, settings: Settings) -> None:
    line = (await look(changed(settings, ack="replica", ack_replicas=2)))["acknowledging"]
    assert (line.level, line.found) == (Level.PROBLEM, "HONGBAO_ACK=replica, 0 of 2 replicas")
    async with configured(redis, appendonly="no"):
        line = (await look(changed(settings, ack="fsync")))["acknowledging"]
    assert (line.level, "appendonly" in line.found) == (Level.PROBLEM, True)
    assert (await look(changed(settings, ack="ledger")))["acknowledging"].level is Level.OK


@pytest.fixture
async def limited(redis: Redis, settings: Settings) -> AsyncIterator[Settings]:
    """The settings with a user who may not do everything, as managed services have them."""
    assert settings.redis_url is not None
    await command(redis, "ACL", "SETUSER", "limited", "on", ">hidden", "~*", "&*", "+@all", "-config", "-eval")
    yield changed(settings, redis_url=settings.redis_url.replace("unix://", "unix://limited:hidden@"))
    await command(redis, "ACL", "DELUSER", "limited")


async def test_a_redis_that_does_not_tell_or_allow_everything(limited: Settings) -> None:
    found = await look(limited)
    assert found["redis log"].level is Level.WARNING
    assert "is not reported" in found["redis log"].found
    assert found["redis scripts"].level is Level.PROBLEM
    assert "hidden" not in str(found)


async def execute(url: str | None, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_database_of_another_release(settings: Settings, empty_database_url: str) -> None:
    latest = schema.migrations()[-1][0]
    found = await look(changed(settings, database_url=empty_database_url))
    assert found["postgres schema"].found == f"version 0, this release has {latest}"
    assert (found["postgres schema"].level, found["lanes"].level) == (Level.PROBLEM, Level.PROBLEM)
    assert "it cannot be examined" in found["lanes"].found
    await execute(settings.database_url, "INSERT INTO schema_versions VALUES (9999)")
    line = (await look(settings))["postgres schema"]
    assert (line.level, line.advice) == (Level.PROBLEM, "Upgrade hongbao: a newer release has written here.")


async def test_lanes_that_do_not_serve(engine: Engine, settings: Settings) -> None:
    async with persisting(settings):
        pass
    assert (await look(settings))["lane 0"].level is Level.OK
    await command(engine.redis, "DEL", keys.lane(0))
    await command(engine.redis, "HSET", keys.lane(1), "epoch", "")
    found = await look(settings)
    assert found["lane 0"].found == "Redis has lost it; the ledger is at 0"
    assert found["lane 1"].found == "fenced: Redis and the ledger disagree about its epoch"
    assert {found["lane 0"].level, found["lane 1"].level} == {Level.PROBLEM}
    assert "redis-lost.md" in found["lane 0"].advice
    await command(engine.redis, "HSET", keys.lane(1), "epoch", "rebuilding x@y")
    assert (await look(settings))["lane 1"].found == "it is being rebuilt from the ledger"


async def test_an_answer_that_makes_no_sense_is_a_line_too(engine: Engine, settings: Settings) -> None:
    await command(engine.redis, "HSET", keys.lane(0), "position", "nonsense")
    found = await look(settings)
    assert (found["lane 0"].level, found["lane 0"].found) == (Level.PROBLEM, "Redis has lost it; the ledger is at 0")
    assert found["lane 1"].level is Level.OK


async def test_a_lane_that_is_behind_the_ledger(engine: Engine, settings: Settings) -> None:
    async with persisting(settings):
        pass
    await engine.pool.execute("UPDATE lanes SET position = 5 WHERE lane = 0")
    line = (await look(settings))["lane 0"]
    assert (line.level, line.found) == (Level.PROBLEM, "Redis is at 0, behind the ledger at 5")


async def test_a_ledger_that_falls_behind(engine: Engine, settings: Settings) -> None:
    async with persisting(settings):
        pass
    sent = await send(engine, count=10)
    for number in range(6):
        await engine.claims.claim(sent.packet_id, f"user-{number}")
    lane = f"lane {int(sent.packet_id[2:5])}"
    assert (await look(settings))[lane].level is Level.OK
    for bound, level in ((10, Level.WARNING), (7, Level.PROBLEM)):
        line = (await look(changed(settings, backlog_max=bound)))[lane]
        assert (line.level, line.found.startswith("at 7, ledger at 0: 7 behind by ")) == (level, True)
        assert line.found.endswith(f"backlog 7 of {bound}")


async def test_what_waits_in_quarantine(settings: Settings) -> None:
    row = "INSERT INTO quarantine (lane, position, packet_id, kind, at_ms, reason) VALUES (0, {}, 1, 'claim', 1, 'x')"
    await execute(settings.database_url, row.format(1))
    line = (await look(settings))["quarantine"]
    assert (line.level, line.found) == (Level.WARNING, "1 change set aside")
    assert "hongbao quarantine list" in line.advice


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


async def test_servers_that_are_not_there(settings: Settings, silent_port: int) -> None:
    nowhere = {"redis_url": "redis://u:hidden@127.0.0.1:1/0", "database_url": "postgresql://u:hidden@127.0.0.1:1/x"}
    found = await look(changed(settings, **nowhere))
    assert levels(found, Level.PROBLEM) == {"redis", "postgres"}
    assert found["redis"].found.startswith("redis://127.0.0.1:1/0: Redis does not answer")
    assert found["postgres"].found.startswith("postgresql://127.0.0.1:1/x: Postgres does not answer")
    assert "hidden" not in str(found)
    mute = changed(settings, redis_url=f"redis://127.0.0.1:{silent_port}", redis_timeout_s=0.1)
    found = await look(mute)
    assert levels(found, Level.PROBLEM) == {"redis"} | UNSAFE
    assert "lane 0" not in found


async def test_servers_that_are_not_named(settings: Settings) -> None:
    found = await look(changed(settings, redis_url=None, database_url=None))
    assert levels(found, Level.PROBLEM) == {"redis", "postgres"}
    assert "no `hongbao up`" in found["redis"].found


@pytest.mark.parametrize(("ahead_ms", "level"), [(0, Level.OK), (-900, Level.WARNING), (60_000, Level.PROBLEM)])
async def test_clocks_that_differ(ahead_ms: int, level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        """Ours, of which a question takes a quarter of a second."""

        now_s = 1_000.0

        def time(self) -> float:
            return self.now_s

    async def theirs() -> int:
        ours.now_s += 0.125
        at_ms = int(ours.now_s * 1_000) + ahead_ms
        ours.now_s += 0.125
        return at_ms

    ours = Clock()
    monkeypatch.setattr(machine_checks, "time", ours)
    line = await machine_checks.clock("redis clock", theirs)
    assert line.level is level
    assert line.found == f"{ahead_ms:+.0f} ms from ours, give or take 126"


def test_secrets_that_others_can_read(settings: Settings) -> None:
    def line(**values: object) -> Line:
        lines = machine_checks.examine(changed(settings, **values), is_embedded=False)
        return next(line for line in lines if line.name == "secrets")

    assert line().found.startswith("none yet")
    assert not settings.data_dir.exists()
    secret = settings.data_dir / "auth-secrets" / "0"
    secret.parent.mkdir(parents=True)
    secret.write_text("hidden" * 10, encoding="utf-8")
    secret.chmod(0o644)
    assert (line().level, "mode 0644" in line().found) == (Level.PROBLEM, True)
    secret.chmod(0o600)
    assert (line().level, "1 in force" in line().found) == (Level.OK, True)
    assert line(auth_secret="hidden" * 10).found == "1 in force, from the environment"
    assert line(auth_secret="hidden").level is Level.PROBLEM


def test_a_disk_that_is_full(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("redis", "postgres"):
        (settings.data_dir / name).mkdir(parents=True)
    for free_more, level in ((10**18, Level.PROBLEM), (0, Level.OK)):
        monkeypatch.setattr(machine_checks, "_FREE_BYTES_PROBLEM", free_more)
        monkeypatch.setattr(machine_checks, "_FREE_BYTES_WARNING", free_more)
        lines = [line for line in machine_checks.examine(settings, is_embedded=True) if line.name == "disk"]
        assert [line.level for line in lines] == [level] * 2


def test_no_secret_is_told() -> None:
    url = "postgresql://user:pass%20word@host:5432/books?sslmode=require&password=x"
    assert place_of(url) == "postgresql://host:5432/books"
    assert place_of("postgresql://postgres@/hongbao?host=/run/x") == "postgresql:///run/x/hongbao"
    assert without_secrets(f"cannot reach {url} with pass%20word", url, None) == (
        "cannot reach postgresql://host:5432/books with ***"
    )


def test_healthy_is_without_problems() -> None:
    lines = [Line(name="x", level=level, found="") for level in (Level.OK, Level.WARNING)]
    assert is_healthy(lines)
    assert not is_healthy([*lines, Line(name="y", level=Level.PROBLEM, found="")])


@pytest.mark.long
def test_the_command_on_an_engine_that_runs_and_then_does_not(quick_path: Path) -> None:
    data_dir = quick_path / "data"
    try:
        with upped(data_dir) as up:
            done = hongbao("doctor", "--data-dir", data_dir)
            assert (done.returncode, done.stderr) == (0, ""), done.stdout
            lines = done.stdout.splitlines()
            assert any(line.startswith("ok      lane 0: at 0, ledger at 0") for line in lines)
            assert sum(line.startswith("ok      disk: ") for line in lines) == 2
            assert {line.split()[0] for line in lines} <= {"ok", "warning"}
            printed = hongbao("doctor", "--json", "--data-dir", data_dir)
            assert {line["level"] for line in orjson.loads(printed.stdout)} <= {"ok", "warning"}
            assert up.end() == (0, "")
        done = hongbao("doctor", "--data-dir", data_dir)
        assert (done.returncode, done.stderr) == (1, "")
        assert "problem redis: not configured, and no `hongbao up` runs it -> " in done.stdout
        assert servers.running(data_dir) == (None, None)
    finally:
        servers.remove(data_dir)


def test_the_command_where_nothing_is(tmp_path: Path) -> None:
    done = hongbao("doctor", "--data-dir", tmp_path / "none")
    assert (done.returncode, done.stderr) == (1, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_the_command_on_a_terminal(settings: Settings, tmp_path: Path) -> None:
    """A table, in which nothing of what was found is taken for markup."""
    ours, theirs = pty.openpty()
    variables = {"HONGBAO_REDIS_URL": settings.redis_url or "", "HONGBAO_DATABASE_URL": settings.database_url or ""}
    argv = [sys.executable, "-m", "engine", "doctor", "--data-dir", str(tmp_path)]
    env = environment(**variables, TERM="xterm", COLUMNS="120")
    with subprocess.Popen(argv, stdout=theirs, stderr=subprocess.PIPE, env=env) as process:
        text = b""
        while process.poll() is None or b"quarantine" not in text:
            text += _read(ours)
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 1  # the tests' Postgres is not safe
    assert b"problem" in text
    assert b"noeviction" in text


def _read(descriptor: int) -> bytes:
    ready, _, _ = select.select([descriptor], [], [], 0.1)
    return os.read(descriptor, 65_536) if ready else b""


async def test_no_line_shows_a_password_of_several_servers(settings: Settings) -> None:
    urls = "0=redis://:hidden@127.0.0.1:1/0 1=redis://user:hidden@127.0.0.1:2"
    lines = await examine(changed(settings, redis_url=urls), is_embedded=False)
    assert {line.name for line in lines if line.name.startswith("redis")} == {"redis 127.0.0.1:1", "redis 127.0.0.1:2"}
    assert "hidden" not in repr(lines)
