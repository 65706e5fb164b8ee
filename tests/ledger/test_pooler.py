"""PgBouncer before Postgres: what it would lose is said at the start and by doctor, in one sentence."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import asyncpg
import pytest

from engine.doctor.doctor import examine
from engine.doctor.lines import Level
from engine.engine import Engine
from engine.errors import OperatorError
from engine.settings import Settings
from engine.supervision.child import Command, Process
from tests.support.needs import needs_program
from tests.support.ports import held_port
from tests.support.scenes import caught_up, changed, persisting, send, settled
from tests.support.waiting import wait_until

PLANNED = "enable_hashjoin,enable_mergejoin,enable_seqscan,jit,plan_cache_mode"


@contextmanager
def pgbouncer(url: str, folder: Path, mode: str, *more: str) -> Iterator[str]:
    """The URL of a PgBouncer before the Postgres of ``url``."""
    program, parts = needs_program("pgbouncer"), urlsplit(url)
    there = dict(parse_qsl(parts.query))
    account = Path(there["host"]).owner() if "host" in there else "nobody"
    folder.mkdir()
    users = folder / "users.txt"
    users.write_text(f'"{parts.username}" ""\n', encoding="utf-8")
    with held_port() as port:
        lines = [
            "[databases]",
            f"* = host={there.get('host', parts.hostname)} port={there.get('port', parts.port or 5432)}",
            "[pgbouncer]",
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =",
            f"auth_type = trust\nauth_file = {users}\npool_mode = {mode}\ndefault_pool_size = 20",
            *more,
            *([f"user = {account}"] if os.geteuid() == 0 else []),
        ]
        config = folder / "pgbouncer.ini"
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        process = Process(Command(argv=(str(program), str(config)), cwd=folder, log_path=folder / "log"))
        try:
            yield f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}"
        finally:
            process.kill()


async def answers(url: str) -> None:
    """Wait until it does."""

    async def is_there() -> bool:
        try:
            connection = await asyncpg.connect(url, statement_cache_size=0)
        except (OSError, asyncpg.PostgresError):
            return False
        connection.terminate()
        return True

    await wait_until(is_there, timeout_s=10, what="the pooler")


@pytest.mark.programs("pgbouncer")
@pytest.mark.parametrize("mode", ["transaction", "statement"])
@pytest.mark.parametrize("more", ["", f"ignore_startup_parameters = {PLANNED}"])
async def test_a_session_that_is_lent_to_others_stops_the_start(
    settings: Settings, tmp_path: Path, mode: str, more: str
) -> None:
    with pgbouncer(str(settings.database_url), tmp_path / "pooler", mode, more) as url:
        await answers(url)
        pooled = changed(settings, database_url=url)
        with pytest.raises(OperatorError, match="PgBouncer in transaction or statement mode"):
            async with Engine.open(pooled):
                pass
        lines = await examine(pooled, is_embedded=False)
    assert "PgBouncer" in " ".join(f"{line.found} {line.advice}" for line in lines if line.level is Level.PROBLEM)


@pytest.mark.programs("pgbouncer")
async def test_settings_that_are_ignored_stop_the_start(settings: Settings, tmp_path: Path) -> None:
    more = f"ignore_startup_parameters = {PLANNED}"
    with pgbouncer(str(settings.database_url), tmp_path / "pooler", "session", more) as url:
        await answers(url)
        with pytest.raises(OperatorError, match="ignores a session's settings"):
            async with Engine.open(changed(settings, database_url=url)):
                pass


async def test_postgres_itself_is_no_pooler(settings: Settings) -> None:
    async with Engine.open(settings) as engine, persisting(settings):
        sent = await send(engine, count=1)
        await engine.claims.claim(sent.packet_id, "bob")
        await settled(engine, sent.packet_id)
        await caught_up(engine)
    (line,) = [line for line in await examine(settings, is_embedded=False) if line.name == "postgres sessions"]
    assert line.level is Level.OK
