"""Real servers for the tests: one of each kind a session, an empty Redis and a database of its own a test."""

import asyncio
import gc
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import hypothesis
import pytest
import structlog
import uvloop
from redis.asyncio import Redis

from engine.embedded import servers
from engine.embedded.servers import EmbeddedPostgres, EmbeddedRedis
from engine.engine import Engine
from engine.lanes.clients import command, redis_client
from engine.observability.repeats import repeats
from engine.settings import Settings
from tests.support import database_folder, known_types, needs
from tests.support.administrator import Administrator, administrator_of
from tests.support.books import Books
from tests.support.fast_postgres import UNSAFE_BUT_FAST
from tests.support.lane import Lane, lane_on
from tests.support.ports import held_port
from tests.support.progress import Progress
from tests.support.waiting import wait_until

# The same examples in every run, so that a red run is a change's fault; `--hypothesis-profile=explore` tries new ones.
# No example has to be quick: how quick one is depends on the machine.
_ANY_SPEED = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("fixed", _ANY_SPEED, derandomize=True, database=None)
hypothesis.settings.register_profile("explore", _ANY_SPEED, derandomize=False)
hypothesis.settings.load_profile("fixed")

pytest_plugins = ["tests.support.quick"]
_TEMPLATE = "template_migrated"
_FAST_POSTGRES = {
    **UNSAFE_BUT_FAST,
    "shared_buffers": "32MB",
    "max_connections": "60",
    "max_wal_size": "128MB",
    "autovacuum": "off",
}
_HEADER = pytest.StashKey[str]()
_OF_THE_SHELL = re.compile(
    r"HONGBAO_\w+|PG[A-Z]+|REDIS_URL|DATABASE_URL|\w+_proxy|COLUMNS|LINES|TERMINAL_WIDTH|GITHUB_ACTIONS"
    r"|(NO|FORCE|PY|CLI)_?COLORS?(_FORCE)?|TTY_\w+",
    re.IGNORECASE,
)
"""What a developer's shell may have set that changes what a client connects to or what a command prints."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """How much of what can be tried without end is tried."""
    parser.addoption("--fuzz-inputs", default="20000", help="changed bodies in test_api_fuzz.py")
    parser.addoption("--fuzz-seed", default="1", help="which ones")
    parser.addoption("--model-operations", default="100000", help="how many in test_engine_model.py, at least")
    parser.addoption("--walk-operations", default="20000", help="how many in test_walk.py, at least")
    parser.addoption("--walk-seed", default="1", help="which ones")
    parser.addoption("--gifts", default="400", help="how many in test_returns_under_kills.py")
    parser.addoption("--take-pictures", default=None, metavar="DIR", help="where browser tests keep pictures of pages")
    parser.addoption("--renew-pictures", action="store_true", help="keep new pictures of pages (tests/pictures)")
    parser.addoption("--schema-examples", default="12", help="examples an operation in test_api_schema.py")


def pytest_configure(config: pytest.Config) -> None:
    """One process chooses for all workers, which share the memory."""
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure([*structlog.get_config()["processors"][:-1], plain])  # rich's takes up to 10 s for an error
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as engine/__main__.py; for the workers, which import numpy after this
    if find_spec("sniffio") is None:
        # httpx asks for it with every request to an application; else Python would look through its folders each time.
        sys.modules["sniffio"] = None  # type: ignore[assignment]  # how Python notes that a module is not there
    for mark in (*needs.MARKS, "long: takes seconds, or starts whole installations (make test-long)"):
        config.addinivalue_line("markers", mark)
    if hasattr(config, "workerinput"):
        memory = config.workerinput["memory"]
        config.stash[database_folder.CHOSEN] = None if memory is None else Path(memory)
        return
    config.pluginmanager.register(Progress(config))
    left = database_folder.remove_leftovers()
    workers = config.getoption("numprocesses", None) or 1
    config.stash[database_folder.CHOSEN], line = database_folder.choose(workers)
    config.stash[_HEADER] = f"{line} (folders of killed runs removed: {len(left)})" if left else line


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two more than there are cores, for many tests wait; at most eight, for each worker has servers of its own."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 6) + 2


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # noqa: ANN401  # xdist has no types
    """Tell a worker what was chosen."""
    memory = node.config.stash[database_folder.CHOSEN]
    node.workerinput["memory"] = None if memory is None else str(memory)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say which was chosen: it decides how long a run takes."""
    return config.stash.get(_HEADER, None)


def pytest_sessionstart() -> None:
    """Forget what the shell has set: these tests and the commands they run say by themselves what they need.

    What is tested with such a variable sets it.
    """
    for number in (signal.SIGINT, signal.SIGHUP):  # under nohup or in a script's background they are ignored, and
        if signal.getsignal(number) is signal.SIG_IGN:  # what is started would inherit that
            signal.signal(number, signal.SIG_DFL)
    os.environ["TERM"] = "xterm"  # in a dumb one every table is 80 columns wide
    for name in list(os.environ):
        if _OF_THE_SHELL.fullmatch(name):
            del os.environ[name]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose marks name what is not here."""
    needs.check_marks(item)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest: each of xdist's workers is given as many tests as the others, one after another.

    A long one that comes last is waited for alone. A module's long tests go to one worker, which makes what they share
    once; those of small modules come first, for the dearest tests are in modules of their own.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    modules: dict[Path, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("long") is not None:
            modules.setdefault(item.path, []).append(item)
    short = [item for item in items if item.get_closest_marker("long") is None]
    dealt: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for long in sorted(modules.values(), key=len, reverse=True):
        least = min(dealt, key=len)
        least[:0] = long
    size = len(items) // workers
    items.clear()
    for number, first in enumerate(dealt):
        count = len(short) if number == workers - 1 else max(0, size - len(first))
        items += first + short[:count]
        del short[:count]


def pytest_collection_finish() -> None:
    """What has been collected stays for good: no collection need look at it again, and there need be few of them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # as engine/__main__.py


def pytest_unconfigure() -> None:
    """Let the interpreter's end not look through all of it either."""
    gc.freeze()


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """A module's own loop, if it has one: transports differ in what they do once they are closed."""
    module = item.getparent(pytest.Module)
    return {"loop": getattr(module and module.obj, "LOOP_FACTORY", uvloop.new_event_loop)}


@pytest.fixture(scope="session", autouse=True)
def _impatient() -> Iterator[None]:
    """Loops that look more often than in the product, and bounds small enough to run into."""
    with pytest.MonkeyPatch.context() as constants:
        constants.setattr("engine.packets.sweeper.INTERVAL_S", 0.05)
        constants.setattr("engine.packets.opening.INTERVAL_S", 0.05)
        constants.setattr("engine.packets.opening.AGE_S", 0.0)
        constants.setattr("engine.persisting.persister.BATCH_MAX", 1_000)
        constants.setattr("engine.persisting.persister.RETRY_S", 0.05)
        yield


@pytest.fixture(scope="session", autouse=True)
def _known_types() -> Iterator[None]:
    """What one connection has asked of Postgres's types, the others know."""
    with pytest.MonkeyPatch.context() as patch:
        known_types.remember(patch)
        yield


@pytest.fixture(autouse=True)
def _nothing_said() -> None:
    """What another test logged is said anew."""
    repeats.forget()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """The session's standalone server."""
    yield from _redis(tmp_path_factory.mktemp("redis"), {})


@pytest.fixture(scope="session")
def cluster_redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A cluster of one that owns all slots: it refuses a script whose keys are in several of them."""
    with held_port() as port, held_port() as bus_port:
        options = {
            "cluster-enabled": "yes",
            "bind": "127.0.0.1",
            "port": str(port),
            "cluster-port": str(bus_port),
        }
        for server in _redis(tmp_path_factory.mktemp("cluster"), options):
            with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                runner.run(_own_all_slots(server.url))
            yield server


@pytest.fixture(scope="session")
def postgres_server(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedPostgres]:
    """The session's Postgres, with a migrated database that each test's own is cloned from."""
    memory = pytestconfig.stash[database_folder.CHOSEN]
    data_dir = tmp_path_factory.mktemp("postgres") if memory is None else database_folder.make(memory)
    with servers.hold(data_dir) as held:
        server = EmbeddedPostgres(held, options=_FAST_POSTGRES)
        server.start()
        try:
            with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                runner.run(_make_template(server.url))
            yield server
        finally:
            server.stop()
    servers.remove(data_dir)


@pytest.fixture
def port() -> Iterator[int]:
    """A loopback port of the test's own, on which nobody listens yet."""
    with held_port() as held:
        yield held


@pytest.fixture
async def redis_url(redis_server: EmbeddedRedis) -> str:
    """A standalone server without a key in it."""
    await _flush(redis_server.url)
    return redis_server.url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of an empty standalone server; it answers in bytes."""
    async with redis_client(redis_url, connections_max=50, timeout_s=5.0) as client:
        yield client


@pytest.fixture
async def cluster_redis_url(cluster_redis_server: EmbeddedRedis) -> str:
    """A cluster-enabled server without a key in it."""
    await _flush(cluster_redis_server.url)
    return cluster_redis_server.url


@pytest.fixture
async def cluster_redis(cluster_redis_url: str) -> AsyncIterator[Redis]:
    """A client of an empty cluster-enabled server; it answers in bytes."""
    async with redis_client(cluster_redis_url, connections_max=50, timeout_s=5.0) as client:
        yield client


@pytest.fixture(params=["redis_server", "cluster_redis_server"], ids=["standalone", "cluster"])
def script_server(request: pytest.FixtureRequest) -> EmbeddedRedis:
    """Each kind of server in turn: what runs on it must hold on both."""
    server: EmbeddedRedis = request.getfixturevalue(request.param)
    return server


@pytest.fixture
async def lane(script_server: EmbeddedRedis) -> AsyncIterator[Lane]:
    """A lane without a packet in it, on each kind of server in turn."""
    async with lane_on(script_server.url) as fresh:
        yield fresh


@pytest.fixture(scope="session")
def administrator(postgres_server: EmbeddedPostgres) -> Iterator[Administrator]:
    """Makes and drops the tests' databases."""
    with administrator_of(postgres_server.url) as connected:
        yield connected


@pytest.fixture
async def empty_database_url(postgres_server: EmbeddedPostgres, administrator: Administrator) -> AsyncIterator[str]:
    """A database without any table, dropped afterwards."""
    async with _database(postgres_server.url, administrator, "template1") as url:
        yield url


@pytest.fixture
async def database_url(postgres_server: EmbeddedPostgres, administrator: Administrator) -> AsyncIterator[str]:
    """A migrated database of the test's own, dropped afterwards."""
    async with _database(postgres_server.url, administrator, _TEMPLATE) as url:
        yield url


@pytest.fixture
async def books(database_url: str) -> AsyncIterator[Books]:
    """The first of two lanes of a ledger by itself."""
    from engine.recovery.epochs import SQL

    connection = await asyncpg.connect(database_url)
    await connection.execute(SQL["add_lanes"], ["epoch-0", "epoch-1"])
    yield Books(connection=connection)
    await connection.close()


@pytest.fixture
def settings(redis_url: str, database_url: str, tmp_path: Path) -> Settings:
    """Settings for the test's servers. Built without the environment."""
    return _settings(redis_url, database_url, tmp_path / "data")


@pytest.fixture(scope="module")
def shared_database_url(postgres_server: EmbeddedPostgres, administrator: Administrator) -> Iterator[str]:
    """A migrated database of the module's own, dropped afterwards.

    It is of no loop: pytest-asyncio ends a module's loop, and all that is on it, after each test that has its own.
    """
    database = _database(postgres_server.url, administrator, _TEMPLATE)
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        url = runner.run(database.__aenter__())
        yield url
        runner.run(database.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def shared_settings(
    redis_server: EmbeddedRedis, shared_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """The same for all tests of a module, none of which minds what another left.

    No such test may ask for ``redis_url`` as well: it empties their Redis.
    """
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(_flush(redis_server.url))
    return _settings(redis_server.url, shared_database_url, tmp_path_factory.mktemp("shared") / "data")


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    """An engine on the test's servers."""
    async with Engine.open(settings) as opened:
        yield opened


def url_of(server_url: str, database: str) -> str:
    """The server's URL with another database in it."""
    return server_url.replace("/hongbao?", f"/{database}?")


def _redis(data_dir: Path, options: dict[str, str]) -> Iterator[EmbeddedRedis]:
    with servers.hold(data_dir) as held:
        server = EmbeddedRedis(held, options=options)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    servers.remove(data_dir)


def _settings(redis_url: str, database_url: str, data_dir: Path) -> Settings:
    """With bounds small enough to run into."""
    places = {"redis_url": redis_url, "database_url": database_url, "data_dir": data_dir}
    return _checked_settings().model_copy(update=places)


@cache
def _checked_settings() -> Settings:
    """All but where the servers are: to check a hundred fields takes longer than many a test."""
    return Settings.model_validate(
        {
            **{name: field.get_default(call_default_factory=True) for name, field in Settings.model_fields.items()},
            "port": 0,
            "lanes": 2,
            "claim_queue_max": 1_000,
            "claim_wait_ms_max": 60_000,  # what a claim takes, and so how many may wait, is the machine's
            "backlog_max": 10_000,
            "payment_password_hash_kib": 64,
            "payout_interval_s": 0.05,
            "sandbox_payout_s": 0.0,
            "count_max": 1_000_000,  # what is tested is seldom who sends
            "festivals": "",  # the same limits whatever day it is
        }
    )


async def _own_all_slots(url: str) -> None:
    async with redis_client(url, connections_max=1, timeout_s=5.0) as client:
        await command(client, "CLUSTER", "ADDSLOTSRANGE", 0, 16_383)

        async def is_whole() -> bool:
            return b"cluster_state:ok" in await command(client, "CLUSTER", "INFO")

        await wait_until(is_whole, timeout_s=10, what="the cluster of one being whole")


async def _flush(url: str) -> None:
    async with redis_client(url, connections_max=1, timeout_s=5.0) as client:
        await command(client, "FLUSHALL")


async def _make_template(url: str) -> None:
    from engine.ledger.schema import migrate  # only the tests that need a database need it

    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE DATABASE {_TEMPLATE}")
    await connection.close()
    await migrate(url_of(url, _TEMPLATE))


@asynccontextmanager
async def _database(url: str, administrator: Administrator, template: str) -> AsyncIterator[str]:
    name = f"test_{uuid4().hex}"
    await administrator.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    yield url_of(url, name)
    await administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")
