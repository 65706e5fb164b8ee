"""Finds the servers a command needs: those of the settings, those of a running `up`, or its own while it runs."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from engine import embedded
from engine.embedded import EmbeddedPostgres, EmbeddedRedis
from engine.settings import Settings


def running(settings: Settings) -> Settings:
    """Settings with the URLs of the data directory's servers where none are given, if these servers run."""
    if embedded.is_running(settings.data_dir):
        urls = embedded.urls(settings.data_dir)
        return with_urls(settings, urls.redis_url, urls.database_url)
    return settings


@contextmanager
def reachable(settings: Settings) -> Iterator[Settings]:
    """Settings whose servers run: starts the data directory's own if need be, and stops what it started.

    Raises OperatorError when a server cannot be started.
    """
    found = running(settings)
    if found.redis_url is not None and found.database_url is not None:
        yield found
        return
    with embedded.hold(settings.data_dir) as held, ExitStack() as stack:
        redis, postgres = EmbeddedRedis(held), EmbeddedPostgres(held)
        for server, url in ((redis, found.redis_url), (postgres, found.database_url)):
            if url is None:
                stack.callback(server.stop)
                server.start()
        yield with_urls(found, redis.url, postgres.url)


def with_urls(settings: Settings, redis_url: str, database_url: str) -> Settings:
    """Fill in the URLs that the settings do not give."""
    return settings.model_copy(
        update={
            "redis_url": settings.redis_url or redis_url,
            "database_url": settings.database_url or database_url,
        }
    )
