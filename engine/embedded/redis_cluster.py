"""A Redis Cluster for one data directory, for trying and testing: production brings its own."""

import asyncio
import time
from collections.abc import Mapping

from engine.embedded import cluster_forming, cluster_layout
from engine.embedded.data_dir import DataDir
from engine.embedded.redis_node import RedisNode
from engine.errors import OperatorError
from engine.supervision import service
from engine.supervision.child import Process

NODE_TIMEOUT_MS = 1_000
"""After this time without an answer, the others ask each other whether a node has failed."""
_FORM_S_MAX = 60.0
_POLL_S = 0.1


class EmbeddedRedisCluster:
    """``nodes`` masters that share all slots, each with ``replicas`` replicas, on ports of loopback.

    Each node is a service of its own, so a supervisor starts one that was killed again. The second start on a data
    directory finds the same cluster. At least three masters are needed for a replica to take over from a dead one.
    ``options`` adds or replaces the servers' own.
    Raises OperatorError if the data directory holds another Redis.
    """

    def __init__(
        self,
        held: DataDir,
        *,
        nodes: int,
        replicas: int = 0,
        appendfsync: str = "everysec",
        node_timeout_ms: int = NODE_TIMEOUT_MS,
        options: Mapping[str, str] | None = None,
    ) -> None:
        all_options = {"appendfsync": appendfsync, "cluster-node-timeout": str(node_timeout_ms), **(options or {})}
        self._path = held.path
        self.layout = cluster_layout.kept_or_made(held.path, masters=nodes, replicas=replicas)
        self.url = self.layout.url
        self.node_services = tuple(
            RedisNode(
                f"redis-{number}",
                cluster_layout.folder(held.path) / str(number),
                ports=ports,
                password=self.layout.password,
                options=all_options,
            )
            for number, ports in enumerate(self.layout.ports, start=1)
        )

    async def form(self) -> None:
        """Make the running nodes one cluster, unless an earlier start has, and wait until all serve.

        Raises OperatorError if they do not in time.
        """
        deadline_s = time.monotonic() + _FORM_S_MAX
        while (why := await asyncio.to_thread(self._why_unformed)) is not None:
            _check_time(deadline_s, why)
            await asyncio.sleep(_POLL_S)

    def start(self) -> None:
        """Start every node, form the cluster and block until all serve. If this raises, no process is left."""
        try:
            for node in self.node_services:
                node.prepare()
                node.process = Process(node.command())
            for node in self.node_services:
                if node.process is not None:
                    service.wait_started(node, node.process)
            deadline_s = time.monotonic() + _FORM_S_MAX
            while (why := self._why_unformed()) is not None:
                _check_time(deadline_s, why)
                time.sleep(_POLL_S)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Stop every node cleanly that runs. The cluster can be started again."""
        for node in self.node_services:  # all at once: a master waits for its replicas, unless these end, too
            if node.process is not None:
                node.process.signal(node.process.command.stop_signal)
        for node in self.node_services:
            node.stop()

    def kill(self) -> None:
        """Send SIGKILL to every node that runs."""
        for node in self.node_services:
            node.kill()

    def _why_unformed(self) -> str | None:
        """Go as far as is possible now. Returns what is missing, or None once all is there."""
        if not self.layout.is_formed:
            cluster_forming.form(self.node_services, self.layout)
        why = cluster_forming.why_not_whole(self.node_services, self.layout)
        if why is None and not self.layout.is_formed:
            self.layout = cluster_layout.keep_formed(self._path, self.layout)
        return why


def _check_time(deadline_s: float, why: str) -> None:
    if time.monotonic() > deadline_s:
        raise OperatorError(f"The embedded Redis cluster is not whole after {_FORM_S_MAX:g} s: {why.rstrip('.')}.")
