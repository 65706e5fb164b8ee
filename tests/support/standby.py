"""A Postgres of a test's own and an asynchronous standby of it, on sockets of this machine."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil

from engine.embedded import servers
from engine.embedded.postgres_programs import programs
from engine.embedded.servers import EmbeddedPostgres
from engine.ledger import schema
from engine.supervision import child, system_account
from engine.supervision.child import Command
from tests.support.fast_postgres import UNSAFE_BUT_FAST
from tests.support.waiting import wait_until

_OPTIONS = {
    **UNSAFE_BUT_FAST,
    "shared_buffers": "32MB",
    "max_connections": "60",
    "autovacuum": "off",
    "wal_level": "logical",
}


@dataclass(slots=True)
class Pair:
    """``standby`` follows ``primary`` until it is promoted."""

    primary: EmbeddedPostgres
    standby: EmbeddedPostgres

    @property
    def url(self) -> str:
        """Of whichever of the two takes writes."""
        hosts = f"{self.primary.socket_dir},{self.standby.socket_dir}"
        options = "port=5432,5432&sslmode=disable&target_session_attrs=read-write"
        return f"postgresql://postgres@/hongbao?host={hosts}&{options}"

    def cut_off(self) -> None:
        """From now on the standby receives nothing: SIGSTOP to the process that sends it the primary's log."""
        (sender,) = [process for process in _children(self.primary) if "walsender" in " ".join(process.cmdline())]
        sender.send_signal(signal.SIGSTOP)

    async def fail_over(self) -> None:
        """Kill the primary, and let the standby take its place with what it has received."""
        for process in [psutil.Process(_pid(self.primary)), *_children(self.primary)]:
            process.kill()
        self.primary.stop()
        connection = await asyncpg.connect(self.standby.url)
        try:
            assert await connection.fetchval("SELECT pg_promote(true, 60)")
        finally:
            await connection.close()

    async def in_step(self) -> None:
        """Wait until the standby has all that the primary has."""
        connection = await asyncpg.connect(self.primary.url)

        async def is_so() -> bool:
            return bool(
                await connection.fetchval(
                    "SELECT count(*) = 1 AND bool_and(flush_lsn >= pg_current_wal_lsn()) FROM pg_stat_replication"
                )
            )

        try:
            await wait_until(is_so, what="the standby being in step")
        finally:
            await connection.close()


@asynccontextmanager
async def primary_and_standby(folder: Path) -> AsyncIterator[Pair]:
    """Both run at the beginning, with this release's schema."""
    async with AsyncExitStack() as stack:
        made = []
        for name in ("primary", "standby"):
            (folder / name).mkdir(mode=0o711)
            held = stack.enter_context(servers.hold(folder / name))
            made.append(EmbeddedPostgres(held, options=_OPTIONS))
            stack.callback(made[-1].stop)
        pair = Pair(*made)
        await asyncio.to_thread(pair.primary.start)
        await schema.migrate(pair.primary.url)
        await asyncio.to_thread(_copy, pair)
        await asyncio.to_thread(pair.standby.start)
        await pair.in_step()
        yield pair
    for name in ("primary", "standby"):
        servers.remove(folder / name)


def _copy(pair: Pair) -> None:
    """As docs of Postgres have it: the standby begins as a copy of the running primary."""
    account = system_account.service_account()
    folder = pair.standby.link
    folder.mkdir(mode=0o700)
    if account is not None:
        system_account.make_private_dir(folder, account)
    place = ("--pgdata", str(folder), "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast")
    words = ("--host", str(pair.primary.socket_dir), "--port", "5432", "--username", "postgres", "--no-sync")
    command = Command(
        argv=(str(programs(account) / "pg_basebackup"), *place, *words),
        env={"LC_ALL": "C"},
        cwd=Path("/"),
        account=account,
        log_path=folder.parent / "backup.log",
    )
    assert child.run(command) == 0, (folder.parent / "backup.log").read_text(encoding="utf-8")


@contextmanager
def subscriber(postgres: EmbeddedPostgres) -> Iterator[None]:
    """A program that reads the changes of the ledger, and is no standby."""
    words = ("--dbname", "hongbao", "--host", str(postgres.socket_dir), "--port", "5432", "--username", "postgres")
    slot = ("--slot", "subscriber", "--plugin", "test_decoding")
    program = programs(None) / "pg_recvlogical"
    subprocess.run([program, *words, *slot, "--create-slot"], check=True)
    reading = ("--start", "--file", "/dev/null", "--fsync-interval", "1", "--status-interval", "1")
    process = subprocess.Popen([program, *words, *slot, *reading])
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _children(postgres: EmbeddedPostgres) -> list[psutil.Process]:
    return psutil.Process(_pid(postgres)).children()


def _pid(postgres: EmbeddedPostgres) -> int:
    assert postgres.process is not None
    return postgres.process.pid
