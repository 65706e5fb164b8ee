"""A Redis of one test's own, which can be killed, started again, and set back to an earlier state."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from engine.embedded import servers
from engine.embedded.servers import EmbeddedRedis
from engine.lanes.clients import command, redis_client


class RestartableRedis:
    """A server with its log (it comes back as it was killed), or with snapshots alone."""

    def __init__(self, server: EmbeddedRedis) -> None:
        self.url = server.url
        self._server = server
        self._snapshot = server.folder / "dump.rdb"
        self._aside = server.folder / "aside.rdb"

    def kill(self) -> None:
        """SIGKILL."""
        assert self._server.process is not None
        self._server.process.kill()
        self._server.process = None

    def start(self) -> None:
        """Start it, on what it finds in its folder."""
        self._server.start()

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    async def put_snapshot_aside(self) -> None:
        """Take a snapshot of what is there now and keep it apart from those that follow."""
        async with redis_client(self.url, connections_max=1, timeout_s=5.0) as client:
            await command(client, "SAVE")
        shutil.copy(self._snapshot, self._aside)

    def restart_set_back(self) -> None:
        """Kill it and start it on the snapshot that was put aside: all that came later it has never heard of."""
        self.kill()
        shutil.copy(self._aside, self._snapshot)
        self.start()


@asynccontextmanager
async def redis_of_its_own(data_dir: Path, *, has_log: bool) -> AsyncIterator[RestartableRedis]:
    """A running server below ``data_dir``, removed at the end of the block."""
    with servers.hold(data_dir) as held:
        server = EmbeddedRedis(held, options={"appendonly": "yes" if has_log else "no"})
        server.start()
        try:
            yield RestartableRedis(server)
        finally:
            server.stop()
    servers.remove(data_dir)
