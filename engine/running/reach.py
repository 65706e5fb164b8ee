"""Finds a command's servers: those in the settings, those of a running `up`, or its own while the command runs."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from engine.embedded import servers
from engine.embedded.servers import EmbeddedPostgres
from engine.errors import OperatorError
from engine.running import libraries
from engine.running.cluster_lanes import with_lanes
from engine.settings import Settings


def running(settings: Settings) -> Settings:
    """The settings, with what is missing taken from the data directory: URLs of servers that run, a cluster's lanes.

    Raises OperatorError for a library whose version is unknown, because every command that uses a server begins here.
    """
    libraries.check()
    redis_url, database_url = servers.running(settings.data_dir)
    found = with_urls(settings, redis_url, database_url)
    return with_lanes(found) if settings.redis_url is None else found


@contextmanager
def reachable(settings: Settings) -> Iterator[Settings]:
    """Settings whose servers run. If necessary it starts the data directory's own, and stops them afterwards.

    Raises OperatorError if a server cannot be started.
    """
    found = running(settings)
    if found.redis_url is not None and found.database_url is not None:
        yield found
        return
    with servers.hold(settings.data_dir) as held, ExitStack() as stack:
        redis, postgres = servers.redis_of(held), EmbeddedPostgres(held)
        for server, url in ((redis, found.redis_url), (postgres, found.database_url)):
            if url is None:
                stack.callback(server.stop)
                server.start()
        yield with_urls(found, redis.url, postgres.url)


def check_has_books(settings: Settings) -> None:
    """Raise OperatorError if neither the settings nor the data directory has a database. It creates nothing."""
    cluster = settings.data_dir / "postgres"
    if settings.database_url is None and not cluster.exists() and not cluster.is_symlink():
        raise OperatorError(
            f"There are no books in {settings.data_dir}: `hongbao up` has not run there; is --data-dir right?"
        )


def with_urls(settings: Settings, redis_url: str | None, database_url: str | None) -> Settings:
    """Fill in the URLs that are missing in the settings."""
    return settings.model_copy(
        update={
            "redis_url": settings.redis_url or redis_url,
            "database_url": settings.database_url or database_url,
        }
    )
