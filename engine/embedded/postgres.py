"""A private Postgres for one data directory, with the wheel's programs or else the machine's.

If we are root, it runs under another account (``engine.supervision.system_account``), because Postgres refuses root.
What that account cannot reach is put elsewhere. No folder's permissions are changed for it:

- the programs are copied once to ``/var/lib/hongbao/postgres-<version>/``;
- the cluster is in ``/var/lib/hongbao/clusters/<random id>/data``, and ``<data_dir>/postgres`` is a link to it. Every
  new link has a new id, so a data directory that was deleted and made again never finds the old money. The file
  ``home`` beside the cluster names its data directory, so a copied data directory is refused instead of shared.
"""

import os
import secrets
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import psutil

from engine.embedded import data_dir
from engine.embedded.data_dir import DataDir
from engine.embedded.postgres_programs import programs
from engine.errors import OperatorError
from engine.supervision import child, service, system_account
from engine.supervision.child import Command, Process
from engine.supervision.system_account import Account

DATABASE = "hongbao"
_CLIENT = "port=5432&sslmode=disable&target_session_attrs=any"
"""For clients. Otherwise they would use PGPORT, PGSSLMODE and PGTARGETSESSIONATTRS, which are for another server."""
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": "5432",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "10min",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] ",
}


class EmbeddedPostgres:
    """One cluster with the database ``hongbao``. It has no TCP and trusts everyone who can open its private socket.

    ``options`` adds or replaces server settings. Committed transactions survive SIGKILL and, with the default
    settings, a power cut.
    """

    name = "postgres"

    def __init__(self, held: DataDir, *, options: Mapping[str, str] | None = None) -> None:
        self.link = held.path / "postgres"
        self.socket_dir = data_dir.postgres_socket_dir(held.path)
        self.url = url(held.path)
        self.process: Process | None = None
        self._log_path = held.path / "postgres.log"
        self._options = {**_SETTINGS, "unix_socket_directories": str(self.socket_dir), **(options or {})}
        self._account: Account | None = None
        self._programs = Path()

    @property
    def folder(self) -> Path:
        """The cluster's real folder."""
        return self.link.resolve()

    def start(self) -> None:
        """Start it and block until it accepts connections. Raises OperatorError."""
        self.process = service.start(self)

    def stop(self) -> None:
        """Stop it cleanly (fast shutdown) if it runs. It can be started again."""
        if self.process is not None:
            self.process.stop()
            self.process = None

    def prepare(self) -> None:
        """Find the programs, stop a server that was left behind, and make the cluster if there is none yet."""
        exists = (self.link / "PG_VERSION").exists()
        self._account = system_account.owner_of(self.folder) if exists else system_account.service_account()
        self._programs = programs(self._account)
        if self.socket_dir.parent == system_account.STATE_DIR / "run":
            system_account.make_state_dir("run")
        system_account.make_private_dir(self.socket_dir, self._account)
        if not exists:
            self._check_not_lost()
            self._create()
        self._check_home()
        service.stop_leftovers(self.folder, ("postgres",))
        self._remove_stale_pid_file()

    def command(self) -> Command:
        """The server in the foreground. SIGINT is its fast shutdown, SIGQUIT its immediate one."""
        words = [word for key, value in self._options.items() for word in ("-c", f"{key}={value}")]
        return Command(
            argv=(str(self._programs / "postgres"), "-D", str(self.folder), *words),
            env={"LC_ALL": "C"},
            cwd=Path("/"),
            account=self._account,
            log_path=self._log_path,
            stop_signal=signal.SIGINT,
            stop_timeout_s=20.0,
            death_signal=signal.SIGQUIT,
        )

    def is_ready(self, pid: int) -> bool:
        """Whether this very process reports that it accepts connections (``pg_ctl`` reads the same file)."""
        lines = _pid_file_lines(self.folder)
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7] == "ready"

    def _create(self) -> None:
        """Make the cluster in a temporary folder and move it once complete. A kill leaves no incomplete cluster."""
        target = self._place()
        temporary = target.with_name(f"{target.name}.new")
        shutil.rmtree(temporary, ignore_errors=True)
        system_account.make_private_dir(temporary, self._account)
        words = ["--username=postgres", "--encoding=UTF8", "--locale=C", "--auth=trust"]
        if self._options.get("fsync") == "off":
            words.append("--no-sync")
        self._run("initdb", "-D", str(temporary), *words)
        self._run("postgres", "--single", "-D", str(temporary), "postgres", stdin=f"CREATE DATABASE {DATABASE}\n")
        temporary.rename(target)
        if target != self.link:
            self.link.symlink_to(target)

    def _place(self) -> Path:
        """The place of a new cluster: in the data directory, if its account can reach that."""
        if self._account is None or system_account.can_pass(self._account, self.link.parent):
            return self.link
        home = system_account.make_state_dir("clusters", secrets.token_hex(8))
        (home / "home").write_bytes(os.fsencode(self.link))
        return home / "data"

    def _check_not_lost(self) -> None:
        """Refuse a broken link: it means a lost ledger, not a new data directory."""
        if self.link.is_symlink():
            raise OperatorError(
                f"The Postgres cluster {self.folder} is gone: restore it, or remove {self.link.parent}."
            )

    def _check_home(self) -> None:
        """Check that a cluster elsewhere is this data directory's. A moved directory keeps it, a copy must not."""
        home_path = self.folder.parent / "home"
        if not self.link.is_symlink() or not home_path.exists():
            return
        home = Path(os.fsdecode(home_path.read_bytes()))
        if home != self.link and home.resolve() == self.folder:
            raise OperatorError(
                f"{self.link.parent} is a copy of {home.parent} and would share its Postgres: start from an empty one."
            )
        home_path.write_bytes(os.fsencode(self.link))

    def _run(self, program: str, *words: str, stdin: str = "") -> None:
        argv = (str(self._programs / program), *words)
        log_path = self._log_path
        offset = log_path.stat().st_size if log_path.exists() else 0
        command = Command(argv=argv, env={"LC_ALL": "C"}, cwd=Path("/"), account=self._account, log_path=log_path)
        if child.run(command, stdin=stdin) != 0:
            why = child.complaint(log_path, offset)
            raise OperatorError(f"postgres did not start: {program} failed: {why} (log: {log_path}).")

    def _remove_stale_pid_file(self) -> None:
        """Postgres trusts a stale file if its process id is alive, although another process may have it by now."""
        lines = _pid_file_lines(self.folder)
        if lines and lines[0].isdigit() and psutil.pid_exists(int(lines[0])):
            (self.folder / "postmaster.pid").unlink()
        for socket_file in self.socket_dir.glob(".s.PGSQL.*"):
            socket_file.unlink()


def own_cluster_elsewhere(link: Path) -> Path | None:
    """The cluster's folder behind a data directory's link. None without a link, or if the cluster is another's."""
    if not link.is_symlink():
        return None
    cluster = link.resolve()
    home_path = cluster.parent / "home"
    if not home_path.exists():
        return cluster.parent if cluster.exists() else None
    home = Path(os.fsdecode(home_path.read_bytes()))
    return None if home != link and home.resolve() == cluster else cluster.parent


def url(path: Path) -> str:
    """The URL of a data directory's database, whether it runs or not."""
    return f"postgresql://postgres@/{DATABASE}?host={data_dir.postgres_socket_dir(path)}&{_CLIENT}"


def _pid_file_lines(folder: Path) -> list[str]:
    try:
        text = (folder / "postmaster.pid").read_text(encoding="utf-8", errors="replace")  # the folder may be named so
        return [line.strip() for line in text.splitlines()]
    except FileNotFoundError:
        return []
