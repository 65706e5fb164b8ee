"""``python -m benchmarks.tabs``: does it cost claims that operators look at the live storm?

One server, loaded for a second at a time, and one console whose live page three browsers ask for new points, each once
per second: in one second they do, in the next they do not. A shared machine changes its speed within minutes by more
than the difference in question. So the ratio of two adjacent seconds says more than any rate. ``--whole`` stops the
console itself in the seconds without, so that the ratio shows all that it costs, its own looks at the counters too.
"""

import argparse
import contextlib
import http.client
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import orjson
from rich.console import Console

from api.console.gate import COOKIE
from benchmarks.bursts import SHARES, Burst, Bursts
from benchmarks.rig import cpu, processes, runs, stage, world, wrk
from benchmarks.rig.servers import OURS, Server
from benchmarks.rig.shapes import Shape
from benchmarks.rig.stage import Stage, wait
from engine.ledger.database import database_pool
from engine.observability import metrics_directory
from engine.observability.terminal import print_anything
from engine.operators import codes
from engine.operators.accounts import Operators
from engine.operators.passwords import Passwords
from engine.operators.roles import VIEWER
from engine.operators.sessions import Sessions
from engine.settings import Settings

TABS, POLL_S = 3, 1.0
FIGURES = {"claims_per_s": "claims/s", "server_us": "server us"}
"""The fields of a burst, and their labels. ``server_us``: CPU time per claim."""
_PASSWORD_KIB = 1_024
"""Nobody tries to guess this password."""
CONSOLE = "console ms"
"""The console's own CPU time per second: whatever else the machine does, claims cannot lose more than that."""
Pair = tuple[Burst, Burst]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """``packets``: per round, for all of its bursts. ``whole``: the console stands still in the seconds without."""

    rounds: int = 8
    pairs_a_round: int = 8
    connections: int = 64
    packets: int = 6_000
    whole: bool = False


@dataclass(slots=True)
class Tab:
    """What an open page asks for, while ``is_open`` is set. ``answers``: how many points came."""

    port: int
    cookie: str
    is_open: threading.Event
    is_over: threading.Event
    phase_s: float
    answers: int = 0
    failed: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Poll until it is over."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with contextlib.closing(connection):
            self._run(connection)

    def _run(self, connection: http.client.HTTPConnection) -> None:
        after_ms = 0
        while not self.is_over.is_set():
            if not self.is_open.wait(0.05):
                continue
            self.is_over.wait(self.phase_s)
            while self.is_open.is_set() and not self.is_over.is_set():
                after_ms = self._poll(connection, after_ms)
                self.is_over.wait(POLL_S)

    def _poll(self, connection: http.client.HTTPConnection, after_ms: int) -> int:
        try:
            connection.request("GET", f"/live.json?after={after_ms}&window=300", headers={"cookie": self.cookie})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                self.failed.append(f"{answer.status}")
                return after_ms
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self.failed.append(str(error))
            return after_ms
        at_ms: list[int] = orjson.loads(body)["at_ms"]
        self.answers += len(at_ms)
        return at_ms[-1] if at_ms else after_ms


class Watching:
    """The console's process and its tabs."""

    def __init__(self, process_id: int, tabs: Sequence[Tab], is_open: threading.Event, *, whole: bool) -> None:
        self._process_id, self._tabs, self._is_open, self._whole = process_id, tabs, is_open, whole
        self.console_ms: dict[bool, list[float]] = {False: [], True: []}

    def metered(self, is_open: bool, burst: Callable[[], Burst]) -> Burst:
        """A burst with or without tabs, and the CPU time that the console used meanwhile."""
        (self.open if is_open else self.close)()
        begun_s, used_s = time.perf_counter(), cpu.used_s(self._process_id)
        done = burst()
        took_s = time.perf_counter() - begun_s
        self.console_ms[is_open].append((cpu.used_s(self._process_id) - used_s) / took_s * 1_000)
        return done

    def open(self) -> None:
        """Open all tabs."""
        if self._whole:
            os.kill(self._process_id, signal.SIGCONT)
        self._is_open.set()

    def close(self) -> None:
        """Close all tabs, and stop the console if all of it is compared."""
        self._is_open.clear()
        if self._whole:
            time.sleep(0.05)  # an answer that is under way
            os.kill(self._process_id, signal.SIGSTOP)


def sharing(folder: str) -> Server:
    """Our server, as under `hongbao up`: it shares its metrics through a folder."""
    return replace(
        OURS,
        variables=lambda stage, database, port: {
            **OURS.variables(stage, database, port),
            metrics_directory.VARIABLE: folder,
        },
    )


async def signed_in(database_url: str) -> str:
    """The cookie of an operator who may look."""
    pool = await database_pool(database_url, connections_max=2, timeout_s=10)
    try:
        operators = Operators(pool, Passwords(_PASSWORD_KIB))
        link = await operators.add("watcher", VIEWER, by="benchmarks")
        set_up = await operators.set_up(link)
        code = codes.code_at(set_up.totp_secret, int(time.time() * 1_000))
        operator = await operators.finish_set_up(link, "correct horse battery", code)
        token, _ = await Sessions(pool).begin(operator, address="127.0.0.1", agent="benchmarks")
    finally:
        await pool.close()
    return f"{COOKIE}={token}"


@contextmanager
def watched(prepared: Stage, database: str, *, whole: bool) -> Iterator[tuple[Watching, list[Tab]]]:
    """A console on the stage's servers, with tabs that are closed. Raises NotStartedError."""
    port = processes.free_port()
    variables = {**prepared.variables(database), "HONGBAO_CONSOLE_PORT": str(port)}
    process = processes.start(
        (sys.executable, "-m", "engine", "console"),
        variables=variables,
        cwd=prepared.folder,
        log_path=prepared.folder / "console.log",
    )
    is_open, is_over = threading.Event(), threading.Event()
    try:
        processes.wait_until("the console", process, lambda: processes.listens(port))
        cookie = wait(signed_in(prepared.database_url(database)))
        tabs = [Tab(port, cookie, is_open, is_over, number * POLL_S / TABS) for number in range(TABS)]
        threads = [threading.Thread(target=tab.run, daemon=True) for tab in tabs]
        for thread in threads:
            thread.start()
        yield Watching(process.pid, tabs, is_open, whole=whole), tabs
        is_over.set()
        os.kill(process.pid, signal.SIGCONT)
        for thread in threads:
            thread.join(10)
    finally:
        is_over.set()
        os.kill(process.pid, signal.SIGCONT)
        processes.stop(process)


def pairs(bursts: Bursts, watching: Watching, count: int, connections: int) -> Iterator[Pair]:
    """Bursts without and with tabs, one right after the other. The first of the two alternates."""
    for number in range(-1, count):
        done = {}
        for is_open in (False, True) if number % 2 else (True, False):
            done[is_open] = watching.metered(is_open, lambda: bursts.burst(connections))
        if number >= 0:  # the first is the warm-up
            yield done[False], done[True]


def summary(kept: Sequence[Pair]) -> list[str]:
    """Per figure: the median without and with, and the ratio's median and quartiles. Needs at least two pairs."""
    lines = []
    for name, title in FIGURES.items():
        without, with_tabs = ([getattr(pair[place], name) for pair in kept] for place in (0, 1))
        ratios = [after / before for before, after in zip(without, with_tabs, strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4)
        lines.append(
            f"{title:<10} without {statistics.median(without):>9,.1f}  with {statistics.median(with_tabs):>9,.1f}  "
            f"ratio {median:.3f} (quartiles {low:.2f} to {high:.2f})"
        )
    return lines


def compare(schedule: Schedule, console: Console) -> int:
    """Measure and print. Returns how many pairs count. Raises errors that make a run void."""
    kept: list[Pair] = []
    console_ms: dict[bool, list[float]] = {False: [], True: []}
    answers, failed = 0, []
    with stage.stage() as prepared:
        hundreds = world.build(prepared, "hundreds", packets=schedule.packets, shares=SHARES)
        for _ in range(schedule.rounds):
            folder = metrics_directory.directory(Settings(data_dir=prepared.folder / "data", auth_secret=None))
            metrics_directory.prepare(folder)
            with (
                runs.serving(prepared, hundreds, sharing(str(folder))) as (server, database),
                watched(prepared, database, whole=schedule.whole) as (watching, tabs),
            ):
                bursts = Bursts(prepared, hundreds, server, Shape.BARE)
                for pair in pairs(bursts, watching, schedule.pairs_a_round, schedule.connections):
                    if not _is_kept(pair, console):
                        break  # whatever is wrong is wrong until the next round
                    kept.append(pair)
            prepared.redis.stop()
            for is_open, used_ms in watching.console_ms.items():
                console_ms[is_open] += used_ms
            answers += sum(tab.answers for tab in tabs)
            failed += [why for tab in tabs for why in tab.failed]
    what = "the console and its tabs" if schedule.whole else "the tabs"
    console.print(f"\n{schedule.connections} connections, {len(kept)} pairs, with / without {what}:")
    for line in summary(kept) if len(kept) > 1 else ["too few pairs"]:
        console.print(line, markup=False)
    without_ms, with_ms = (statistics.mean(console_ms[is_open]) for is_open in (False, True))
    per_second = f"of {1_000 * (os.cpu_count() or 1):,} per second"
    console.print(f"{CONSOLE} without {without_ms:>9,.1f}  with {with_ms:>9,.1f}  {per_second}", markup=False)
    console.print(f"{answers} points came to {TABS} tabs; {len(failed)} requests failed. {failed[:3]}", markup=False)
    return len(kept)


def _is_kept(pair: Pair, console: Console) -> bool:
    """Print a pair, and say whether it counts."""
    without, with_tabs = pair
    if why := without.void or with_tabs.void:
        console.print(f"VOID: {why}", markup=False)
        return False
    ratio = with_tabs.claims_per_s / without.claims_per_s
    console.print(f"{without.claims_per_s:>9,.0f}/s {with_tabs.claims_per_s:>9,.0f}/s  ratio {ratio:.2f}", markup=False)
    return True


def main(arguments: list[str]) -> int:
    """Returns 0 if it was measured, 1 if it could not be, 130 if stopped."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tabs", description=__doc__)
    parser.add_argument("--rounds", type=int, default=Schedule.rounds, help="each on fresh servers (default: 8)")
    parser.add_argument("--pairs", type=int, default=Schedule.pairs_a_round, help="per round, while packets last")
    parser.add_argument("--connections", type=int, default=Schedule.connections)
    parser.add_argument("--packets", type=int, default=Schedule.packets, help="of 100 shares each, per round")
    parser.add_argument("--whole", action="store_true", help="compare with a console that is stopped")
    options = parser.parse_args(arguments)
    print_anything()
    console = Console(highlight=False, soft_wrap=True)
    if not wrk.found():
        console.print("wrk is not on PATH (`python -m benchmarks --install` gets it as root).", markup=False)
        return 1
    try:
        schedule = Schedule(
            rounds=options.rounds,
            pairs_a_round=options.pairs,
            connections=options.connections,
            packets=options.packets,
            whole=options.whole,
        )
        kept = compare(schedule, console)
    except KeyboardInterrupt:
        console.print("Stopped; nothing is left running.")
        return 130
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
