"""Which servers a command uses: those of the settings, those that run, or its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.embedded import servers
from engine.embedded.servers import EmbeddedRedis
from engine.errors import OperatorError
from engine.running import reach
from engine.settings import Settings

GIVEN_REDIS, GIVEN_DATABASE = "redis://given", "postgresql://given/x"


@pytest.fixture
def alone(settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    """Settings that name no server."""
    changes = {"data_dir": tmp_path / "data", "redis_url": None, "database_url": None}
    yield settings.model_copy(update=changes)
    servers.remove(tmp_path / "data")


def given(settings: Settings, *, redis: bool, database: bool) -> Settings:
    urls = {"redis_url": GIVEN_REDIS if redis else None, "database_url": GIVEN_DATABASE if database else None}
    return settings.model_copy(update=urls)


def test_where_nothing_runs_nothing_is_found_or_made(alone: Settings) -> None:
    assert reach.running(alone) == alone
    assert not alone.data_dir.exists()


def test_what_runs_is_used_one_by_one(alone: Settings) -> None:
    """Of an `up` that was given a database only Redis is the data directory's."""
    with servers.hold(alone.data_dir) as held:
        redis = EmbeddedRedis(held)
        redis.start()
        try:
            found = reach.running(alone)
            assert (found.redis_url, found.database_url) == (redis.url, None)
            mixed = given(alone, redis=False, database=True)
            with reach.reachable(mixed) as reached:  # it is in use, and needs not be held
                assert (reached.redis_url, reached.database_url) == (redis.url, GIVEN_DATABASE)
            assert reach.running(given(alone, redis=True, database=True)).redis_url == GIVEN_REDIS
        finally:
            redis.stop()


def test_only_what_is_missing_is_started_and_it_is_stopped(alone: Settings) -> None:
    with reach.reachable(given(alone, redis=False, database=True)) as reached:
        assert reached.database_url == GIVEN_DATABASE
        assert servers.running(alone.data_dir) == (reached.redis_url, None)
        assert not (alone.data_dir / "postgres").exists()
    assert servers.running(alone.data_dir) == (None, None)


def test_both_are_stopped_when_the_work_fails(alone: Settings) -> None:
    def work() -> float:
        with reach.reachable(alone) as reached:
            assert servers.running(alone.data_dir) == (reached.redis_url, reached.database_url)
            assert servers.is_running(alone.data_dir)
            return 1 / 0

    with pytest.raises(ZeroDivisionError):
        work()
    assert servers.running(alone.data_dir) == (None, None)
    reach.check_has_books(alone)


@pytest.mark.long
def test_a_data_directory_with_a_cluster_is_reached_by_the_clusters_url(alone: Settings) -> None:
    with servers.hold(alone.data_dir) as held:
        cluster = servers.EmbeddedRedisCluster(held, nodes=2)
        assert servers.urls(alone.data_dir).redis_url == cluster.url
        assert servers.running(alone.data_dir) == (None, None)
    with reach.reachable(given(alone, redis=False, database=True)) as reached:
        assert reached.redis_url == cluster.url
        assert reach.running(alone).redis_url == cluster.url
        assert reach.running(Settings(data_dir=alone.data_dir)).lanes == 3  # as for its `up`: one on each master
        assert reach.running(Settings(data_dir=alone.data_dir, lanes=5)).lanes == 5
        assert reach.running(Settings(data_dir=alone.data_dir, redis_url=GIVEN_REDIS)).lanes == 1
    assert servers.running(alone.data_dir) == (None, None)
    assert not (alone.data_dir / "redis").exists()


def test_books_that_do_not_exist(alone: Settings) -> None:
    with pytest.raises(OperatorError, match="There are no books in"):
        reach.check_has_books(alone)
    reach.check_has_books(given(alone, redis=False, database=True))
    assert not alone.data_dir.exists()
    alone.data_dir.mkdir()
    (alone.data_dir / "postgres").symlink_to(alone.data_dir.parent / "lost" / "data")
    reach.check_has_books(alone)  # lost books are another complaint
