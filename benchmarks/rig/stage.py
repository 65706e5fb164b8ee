"""The base of every run: a Redis, a Postgres, a folder, a secret. All are removed when the block ends."""

import asyncio
import secrets
import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import asyncpg

from benchmarks.rig.redis_server import RedisServer
from engine.access import tokens
from engine.embedded import servers
from engine.embedded.servers import EmbeddedPostgres
from engine.settings import Settings
from engine.supervision.child import Process

T = TypeVar("T")
COUNT_MAX = 1_000_000
"""This lets any user send packets for a crowd."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """``token``: a backend's, for our server. The peers also get it, but ignore it."""

    folder: Path
    redis: RedisServer
    postgres: EmbeddedPostgres
    secret: str
    token: str

    @property
    def postgres_process(self) -> Process:
        """The running Postgres."""
        if self.postgres.process is None:
            raise RuntimeError("Postgres is not running")
        return self.postgres.process

    def database_url(self, name: str) -> str:
        """A database's URL."""
        return self.postgres.url.replace("/hongbao?", f"/{name}?")

    def create_database(self, template: str = "template1") -> str:
        """Make a database as a copy of ``template``, file by file. Returns its name."""
        name = f"bench_{uuid4().hex}"
        wait(_execute(self.postgres.url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY"))
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, even if clients are connected."""
        wait(_execute(self.postgres.url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))

    def variables(self, database: str, port: int = 0) -> dict[str, str]:
        """The environment of our own processes. All other settings have their defaults."""
        return {
            "HONGBAO_REDIS_URL": self.redis.url,
            "HONGBAO_DATABASE_URL": self.database_url(database),
            "HONGBAO_DATA_DIR": str(self.folder / "data"),
            "HONGBAO_AUTH_SECRET": self.secret,
            "HONGBAO_PORT": str(port),
            "HONGBAO_COUNT_MAX": str(COUNT_MAX),
        }

    def settings(self, database: str, **others: object) -> Settings:
        """The same for code in this process. The environment is not read."""
        defaults = {name: field.get_default(call_default_factory=True) for name, field in Settings.model_fields.items()}
        given = {"redis_url": self.redis.url, "database_url": self.database_url(database), "count_max": COUNT_MAX}
        return Settings.model_validate({**defaults, **given, "data_dir": self.folder / "data", **others})


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Run one piece of asynchronous work to its end."""
    return asyncio.run(work)


@contextmanager
def stage() -> Iterator[Stage]:
    """Set up a stage. Postgres always runs, Redis is started when needed."""
    with tempfile.TemporaryDirectory(prefix="hongbao-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        data_dir = folder / "data"
        secret = secrets.token_hex(32)
        with servers.hold(data_dir) as held:
            redis, postgres = RedisServer(folder / "redis"), EmbeddedPostgres(held)
            try:
                postgres.start()
                token = tokens.issue(secret.encode(), "benchmark", ("act",), 86_400)
                yield Stage(folder=folder, redis=redis, postgres=postgres, secret=secret, token=token)
            finally:
                redis.stop()
                postgres.stop()
        servers.remove(data_dir)


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
