"""Finds the servers a command needs: those of the settings, those of a running `up`, or its own while it runs."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from engine.embedded import servers
from engine.embedded.servers import EmbeddedPostgres, EmbeddedRedis
from engine.errors import OperatorError
from engine.settings import Settings


def running(settings: Settings) -> Settings:
    """Settings with the URLs of the data directory's servers where none are given, as far as these servers run."""
    redis_url, database_url = servers.running(settings.data_dir)
    return with_urls(settings, redis_url, database_url)


@contextmanager
def reachable(settings: Settings) -> Iterator[Settings]:
    """Settings whose servers run: starts the data directory's own if need be, and stops what it started.

    Raises OperatorError when a server cannot be started.
    """
    found = running(settings)
    if found.redis_url is not None and found.database_url is not None:
        yield found
        return
    with servers.hold(settings.data_dir) as held, ExitStack() as stack:
        redis, postgres = EmbeddedRedis(held), EmbeddedPostgres(held)
        for server, url in ((redis, found.redis_url), (postgres, found.database_url)):
            if url is None:
                stack.callback(server.stop)
                server.start()
        yield with_urls(found, redis.url, postgres.url)


def check_has_books(settings: Settings) -> None:
    """Raise OperatorError when the settings name no database and the data directory holds none: nothing is made."""
    cluster = settings.data_dir / "postgres"
    if settings.database_url is None and not cluster.exists() and not cluster.is_symlink():
        raise OperatorError(
            f"There are no books in {settings.data_dir}: `hongbao up` has not run there; is --data-dir right?"
        )


def with_urls(settings: Settings, redis_url: str | None, database_url: str | None) -> Settings:
    """Fill in the URLs that the settings do not give."""
    return settings.model_copy(
        update={
            "redis_url": settings.redis_url or redis_url,
            "database_url": settings.database_url or database_url,
        }
    )
