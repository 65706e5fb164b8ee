"""A Redis Cluster for one run."""

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.rig.stage import Stage
from engine.embedded import servers
from engine.embedded.redis_cluster import EmbeddedRedisCluster


@contextmanager
def redis_cluster(stage: Stage, name: str, masters: int) -> Iterator[EmbeddedRedisCluster]:
    """A fresh one, of which nothing is left after the block."""
    folder = stage.folder / name
    with servers.hold(folder) as held:
        cluster = EmbeddedRedisCluster(held, nodes=masters)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.kill()
    servers.remove(folder)
