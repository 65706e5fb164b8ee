"""The machines that are hard on the tests: what each is, which tests can tell, and how a command is run on it."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

from engine.calendar.china_time import CHINA
from tests.hostile.realtime import realtime, realtime_missing
from tests.hostile.uptime import uptime_missing, uptime_prefix
from tests.hostile.user import checkout_of_user, user_missing
from tests.support.repository import ROOT

_CALENDAR = (
    "assets disputes disputes_http festivals freezes payouts plays profiles receipts receiving reconciliation "
    "retraction statement terms tokens transfers wallet watch withdrawal_fees withdrawals working_days"
)
"""What counts by China's day, month or year."""
_CLOCKS = (
    "acks acks_redis admission api_headers api_packets api_server backlog batcher benchmarks_cpu clients cluster "
    "cluster_tls connection connection_bounds connection_ends connections doctor embedded engine epochs finished "
    "freezes gate lane_moves overload packets persister proxies publisher rain rain_on_a_cluster rate_limits rates "
    "receiving recovery redis_cluster replaced_server retraction sentinel sentinels several_servers slot_holders "
    "slot_moves standby stream supervisor sweeper tls transfers undecided up up_cluster up_lost_redis views watch "
    "webhooks withdrawal_races"
)
"""What waits, or is waited for."""
_SHELL = (
    "alerts api_server audit benchmarks_report chaos_parts cli cli_recover demo doctor documented_commands "
    "embedded keyring load load_parts logs metrics progress proof quarantine queries reach receipts "
    "reconciliation rules schema script_contracts secrets_stay source_rules supervisor tls tokens up"
)
"""What starts processes, prints for people, or reads and writes files."""
_NEW_YEAR, _SPRING_FESTIVAL = date(2027, 1, 1), date(2027, 2, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How a command is run: in which folder, after which words, with what added to the environment."""

    folder: Path
    prefix: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One of them. ``tests``: those that can tell. ``words``: pytest's. ``missing``: why it cannot be had here.

    ``has_workers``: whether tests can run beside each other there.
    """

    name: str
    what: str
    tests: str
    place: Callable[[Path], AbstractContextManager[Place]]
    words: tuple[str, ...] = ()
    has_workers: bool = True
    missing: Callable[[], str | None] = lambda: None

    @property
    def paths(self) -> list[str]:
        """The files of those tests."""
        return [file_of(name) for name in self.tests.split()]


def file_of(name: str) -> str:
    """The path of the file ``test_<name>.py``, from the repository's root; there is one."""
    (path,) = (ROOT / "tests").rglob(f"test_{name}.py")
    return str(path.relative_to(ROOT))


@contextmanager
def _young(root: Path) -> Iterator[Place]:
    yield Place(folder=root, prefix=uptime_prefix(1))


def _beginning_at(moment: datetime) -> Callable[[Path], AbstractContextManager[Place]]:
    @contextmanager
    def place(root: Path) -> Iterator[Place]:
        with realtime() as clock:
            clock.set(moment)
            yield Place(folder=root, environment=dict(clock.environment))

    return place


def _midnight(name: str, what: str, day: date) -> Machine:
    """The clock is set back for every test, so that the day begins in the middle of it."""
    begins = datetime(day.year, day.month, day.day, tzinfo=CHINA)
    return Machine(
        name=name,
        what=what,
        tests=_CALENDAR,
        words=("-p", "tests.hostile.midnight", "--midnight", day.isoformat()),
        has_workers=False,  # which would all set the one clock
        place=_beginning_at(begins - timedelta(minutes=10)),
        missing=realtime_missing,
    )


@contextmanager
def _foreign_shell(root: Path) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="hostile-", ignore_cleanup_errors=True) as name:
        temporary = Path(name) / "春节 红包" / ("很长的路径" * 8)
        temporary.mkdir(parents=True)
        for path in (Path(name), temporary.parent, temporary):
            path.chmod(0o755)
        # Python has UTF-8 all the same, else xdist could not tell its workers such a path; test_cli.py goes without.
        yield Place(folder=root, environment={"LC_ALL": "C", "COLUMNS": "40", "TMPDIR": str(temporary)})


@contextmanager
def _nobody(root: Path) -> Iterator[Place]:
    with checkout_of_user(root) as checkout:
        yield Place(folder=checkout.folder, prefix=checkout.prefix, environment=checkout.environment)


@contextmanager
def _busy(root: Path) -> Iterator[Place]:
    """Each busy process ends with the block, at the latest with its parent."""
    code = f"import os\nwhile os.getppid() == {os.getpid()}:\n    sum(range(100_000))"
    with ExitStack() as stack:
        for _ in range(2):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", code]))
            stack.callback(process.kill)
        yield Place(folder=root)


@contextmanager
def _one_core(root: Path) -> Iterator[Place]:
    core = min(os.sched_getaffinity(0))
    yield Place(folder=root, prefix=("taskset", "--cpu-list", str(core)))


MACHINES = (
    Machine(name="young", what="booted a second ago", tests=_CLOCKS, place=_young, missing=uptime_missing),
    _midnight("midnight", "midnight in China in the middle of each test, and a month begins", date(2026, 12, 1)),
    _midnight("new-year", "New Year in China in the middle of each test", _NEW_YEAR),
    _midnight("spring-festival", "the Spring Festival begins in the middle of each test", _SPRING_FESTIVAL),
    Machine(
        name="eve",
        what="a minute before New Year in China when it begins, and then after it",
        tests=_CLOCKS,
        place=_beginning_at(datetime(2026, 12, 31, 23, 59, tzinfo=CHINA)),
        missing=realtime_missing,
    ),
    Machine(
        name="shell",
        what="LC_ALL=C, COLUMNS=40, a long TMPDIR with spaces and Chinese characters",
        tests=_SHELL,
        place=_foreign_shell,
    ),
    Machine(
        name="nobody",
        what="a user who is not root and has no home",
        tests=_SHELL,
        place=_nobody,
        missing=user_missing,
    ),
    Machine(name="busy", what="two busy processes beside it", tests=_CLOCKS, place=_busy),
    Machine(
        name="one-core",
        what="one core",
        tests=_CLOCKS,
        place=_one_core,
        missing=lambda: None if hasattr(os, "sched_getaffinity") else "cores are chosen by Linux's taskset",
    ),
)
