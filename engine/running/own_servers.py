"""The servers that `up` runs itself: those that the settings do not name."""

from collections.abc import Mapping

from engine.embedded import servers
from engine.embedded.data_dir import DataDir
from engine.embedded.servers import EmbeddedPostgres, EmbeddedRedisCluster
from engine.errors import OperatorError
from engine.records import Ack
from engine.running.cluster_lanes import with_lanes
from engine.running.reach import with_urls
from engine.settings import Settings
from engine.supervision.service import Service
from engine.supervision.supervisor import Supervisor


def check(settings: Settings, redis_nodes: int | None, replicas: int | None) -> None:
    """Raise OperatorError if these options contradict the settings or each other."""
    if redis_nodes is None and replicas is not None:
        raise OperatorError("--replicas is the number for each of the masters: add --redis-nodes, the number of these.")
    if redis_nodes is not None and settings.redis_url is not None:
        raise OperatorError(
            "--redis-nodes is about the embedded Redis, and HONGBAO_REDIS_URL names your own: leave out one of the two."
        )


async def start(
    supervisor: Supervisor,
    held: DataDir,
    settings: Settings,
    redis_nodes: int | None,
    replicas: int | None,
    *,
    redis_options: Mapping[str, str] | None = None,
) -> Settings:
    """Start the servers that the settings do not name. Returns the settings with all URLs, and lanes for all masters.

    ``redis_nodes`` None: the Redis that the data directory holds. Raises OperatorError if it holds another.
    """
    postgres = EmbeddedPostgres(held)
    services: list[Service] = [postgres] if settings.database_url is None else []
    if settings.redis_url is not None:
        if services:
            await supervisor.start(*services)
        return with_urls(settings, None, postgres.url)
    # With one sync per second, an acknowledgement would wait too long for the disk.
    appendfsync = "always" if settings.ack is Ack.FSYNC else "everysec"
    redis = servers.redis_of(
        held, nodes=redis_nodes, replicas=replicas or 0, appendfsync=appendfsync, options=redis_options
    )
    if isinstance(redis, EmbeddedRedisCluster):
        await supervisor.start(*services, *redis.node_services)
        await redis.form()
        settings = with_lanes(settings)
    else:
        await supervisor.start(*services, redis)
    return with_urls(settings, redis.url, postgres.url)
