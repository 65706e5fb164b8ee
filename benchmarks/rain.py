"""``python -m benchmarks.rain``: what it costs Redis to spread a rain over the lanes of a cluster.

An embedded cluster of three masters has six lanes, two on each. In each round one rain falls in one lane and one in all
six, grabbed by batches as a backend does. A shared machine changes its speed within minutes, so the ratio of the two in
a round says more than any figure. Then users who have won nothing tap a rain that is sold out: Redis is hardly asked.
"""

import argparse
import asyncio
import logging
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import structlog
import uvloop
from rich.console import Console

from benchmarks.rig.redis_cluster import redis_cluster
from benchmarks.rig.stage import Stage, stage, wait
from engine.auditing.audit import audit
from engine.campaigns.grabbing import Asked, Grab, GrabOutcome
from engine.campaigns.terms import CampaignTerms, PrizeTerms, WaveTerms, campaign_terms
from engine.campaigns.views import CampaignState
from engine.embedded.redis_cluster import EmbeddedRedisCluster
from engine.engine import Engine
from engine.errors import BusyError, HongbaoError, OperatorError
from engine.ledger import schema
from engine.observability.terminal import print_anything
from engine.records import SplitKind
from engine.recovery.placing import Placing, even
from engine.running.processes import run_persister, run_sweeper
from engine.settings import Settings

MASTERS, LANES = 3, 6
OWNER, SHARE_FEN = "mall", 50
BATCH = 1_000
_LEAD_S, _WAVE_S = 10, 3_600
_POLL_S, _READY_S_MAX = 0.05, 120.0
_SCRIPT_COMMANDS = ("evalsha", "eval", "fcall")


class WrongError(Exception):
    """An answer that cannot be, or something that did not come in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """``users``: each grabs once, and there is a share for each. ``late``: how many tap when there is none.

    ``at_once``: batches of 1,000 that are on their way. The fewer there are, the smaller are the calls to six lanes.
    """

    rounds: int = 5
    users: int = 120_000
    late: int = 60_000
    at_once: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Rain:
    """One rain's figures. ``redis_us``: CPU time per grab, by master. The others: of taps after its end."""

    lanes: int
    redis_us: Sequence[float]
    batched_per_s: float
    single_per_s: float
    calls_per_answer: float

    @property
    def whole_us(self) -> float:
        """What all masters used per grab."""
        return sum(self.redis_us)

    @property
    def spread(self) -> float:
        """How far a master is from the mean of all, at most."""
        mean = statistics.mean(self.redis_us)
        return max(abs(one / mean - 1) for one in self.redis_us)


class Raining:
    """An engine on a cluster, and rains in it."""

    def __init__(self, engine: Engine, cluster: EmbeddedRedisCluster, sizes: Sizes) -> None:
        self._engine, self._cluster, self._sizes = engine, cluster, sizes

    async def rain(self, lanes: int) -> Rain:
        """Let one fall and measure it. Raises WrongError if not every share came to one user."""
        campaign_id = await self._made(lanes)
        users = [f"hand{number}" for number in range(self._sizes.users)]
        before_s, calls = self._redis_s(), self._calls()
        answers = await self._batches(campaign_id, users)
        used_s = [after_s - one_s for after_s, one_s in zip(self._redis_s(), before_s, strict=True)]
        if answers != {GrabOutcome.CLAIMED: len(users)} or self._calls() == calls:
            raise WrongError(f"the rain was answered {dict(answers)}")
        await _until(lambda: self._is_sold_out(campaign_id), "the ledger's having the end of every part")
        late = [f"late{number}" for number in range(self._sizes.late)]
        before = self._calls()
        batched_s, single_s = await self._late(campaign_id, late)
        asked = self._calls() - before
        return Rain(
            lanes=lanes,
            redis_us=[one_s / len(users) * 1e6 for one_s in used_s],
            batched_per_s=len(late) / batched_s,
            single_per_s=len(late) / single_s,
            calls_per_answer=asked / (2 * len(late)),
        )

    async def _made(self, lanes: int) -> str:
        engine, users = self._engine, self._sizes.users
        total_fen = users * SHARE_FEN

        async def terms(now_ms: int) -> CampaignTerms:
            wave = WaveTerms(
                starts_at_ms=now_ms + _LEAD_S * 1_000,
                seconds=_WAVE_S,
                prizes=(PrizeTerms(total_fen=total_fen, count=users, split=SplitKind.LUCKY),),
            )
            return campaign_terms(settings=engine.settings, now_ms=now_ms, name="rain", waves=[wave], lanes=lanes)

        await engine.wallets.deposit(OWNER, total_fen, idempotency_key=uuid4().hex, request_hash=b"deposit")
        made = await engine.campaigns.make(OWNER, terms, address="", idempotency_key=uuid4().hex, request_hash=b"rain")

        async def is_running() -> bool:
            return (await engine.campaign_views.get(made.campaign_id)).state is CampaignState.RUNNING

        await _until(is_running, "the rain")
        return made.campaign_id

    async def _batches(self, campaign_id: str, users: Sequence[str]) -> Counter[GrabOutcome]:
        """All users' taps by batches, some of them at once."""
        answers: Counter[GrabOutcome] = Counter()
        batches = iter([users[first : first + BATCH] for first in range(0, len(users), BATCH)])

        async def backend() -> None:
            for batch in batches:  # those at once take from the same
                users = batch
                while users:
                    asked = [Asked(campaign_id, user) for user in users]
                    answered = await self._engine.grabbing.grab_many(asked)
                    # Who is told that the ledger does not have a part's end yet taps again, as clients do.
                    answers.update(_outcome(answer) for answer in answered if not isinstance(answer, BusyError))
                    users = [
                        user for user, answer in zip(users, answered, strict=True) if isinstance(answer, BusyError)
                    ]

        await asyncio.gather(*[backend() for _ in range(self._sizes.at_once)])
        return answers

    async def _late(self, campaign_id: str, users: Sequence[str]) -> tuple[float, float]:
        """Seconds for all of them by batches, then one by one."""
        began_s = time.perf_counter()
        answers = await self._batches(campaign_id, users)
        batched_s = time.perf_counter() - began_s
        began_s = time.perf_counter()
        answers.update([(await self._engine.grabbing.grab(campaign_id, user)).outcome for user in users])
        if answers != {GrabOutcome.SOLD_OUT: 2 * len(users)}:
            raise WrongError(f"a rain that is sold out was answered {dict(answers)}")
        return batched_s, time.perf_counter() - began_s

    async def _is_sold_out(self, campaign_id: str) -> bool:
        try:
            grab = await self._engine.grabbing.grab(campaign_id, "nobody-in-particular")
        except HongbaoError:  # the ledger does not have every end yet
            return False
        return grab.outcome is GrabOutcome.SOLD_OUT

    def _redis_s(self) -> list[float]:
        """CPU seconds by their own account: it has microseconds, and the kernel's list of processes has hundredths."""
        told = [node.info("cpu") for node in self._cluster.node_services]
        return [sum(float(str(one[name])) for name in ("used_cpu_user", "used_cpu_sys")) for one in told]

    def _calls(self) -> int:
        """How many script calls all servers have answered."""
        told = [node.info("commandstats") for node in self._cluster.node_services]
        counts = [stats.get(f"cmdstat_{name}") for stats in told for name in _SCRIPT_COMMANDS]
        return sum(count["calls"] for count in counts if isinstance(count, dict))


def _outcome(answer: Grab | HongbaoError) -> GrabOutcome:
    if isinstance(answer, HongbaoError):
        raise WrongError(f"a tap was answered: {answer}")
    return answer.outcome


async def _until(is_so: Callable[[], Awaitable[bool]], what: str) -> None:
    over_s = time.monotonic() + _READY_S_MAX
    while not await is_so():
        if time.monotonic() > over_s:
            raise WrongError(f"{what} did not come within {_READY_S_MAX:.0f} s")
        await asyncio.sleep(_POLL_S)


async def _spread_lanes(settings: Settings) -> None:
    """As `hongbao lanes place` does."""
    async with Placing.open(settings) as placing:
        for lane, where in even(await placing.held()):
            await placing.move(lane, await placing.named(where), lambda _line: None)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Engine]:
    """An engine beside a persister and a sweeper; when it closes, the audit must be clean."""
    stop = asyncio.Event()
    beside = [asyncio.create_task(run(settings, stop)) for run in (run_persister, run_sweeper)]
    try:
        async with Engine.open(settings) as engine:
            await _spread_lanes(settings)
            yield engine
    finally:
        stop.set()
        await asyncio.gather(*beside)
    async with Engine.open(settings) as engine:
        findings = await audit(engine.pool, engine.store, engine.stream)
        if broken := [problem for finding in findings for problem in finding.problems]:
            raise WrongError("; ".join(broken))


async def _rains(settings: Settings, cluster: EmbeddedRedisCluster, sizes: Sizes, console: Console) -> list[list[Rain]]:
    """Per round, the rain in one lane and the one in all."""
    rounds = []
    async with _opened(settings) as engine:
        raining = Raining(engine, cluster, sizes)
        for number in range(sizes.rounds):
            done = {}
            for lanes in (1, LANES) if number % 2 else (LANES, 1):
                done[lanes] = await raining.rain(lanes)
                console.print(_line(done[lanes]), markup=False)
            rounds.append([done[1], done[LANES]])
    return rounds


def _line(rain: Rain) -> str:
    masters = ", ".join(f"{one_us:.2f}" for one_us in rain.redis_us)
    return (
        f"{rain.lanes} lane{'s' if rain.lanes > 1 else ' '}  Redis {rain.whole_us:.2f} us per grab ({masters})  "
        f"sold out: {rain.batched_per_s:,.0f}/s by batches, {rain.single_per_s:,.0f}/s one by one, "
        f"{rain.calls_per_answer:.4f} script calls per answer"
    )


def summary(rounds: Sequence[Sequence[Rain]]) -> list[str]:
    """The ratio of six lanes to one, how evenly the masters share the load, and the answers after the end."""
    ratios = [spread.whole_us / one.whole_us for one, spread in rounds]
    spreads = [spread.spread for _, spread in rounds]
    rains = [rain for both in rounds for rain in both]
    return [
        f"Redis CPU per grab, {LANES} lanes / 1 lane: {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}) in {len(rounds)} rounds",
        f"a master's load differs from the mean by at most {statistics.median(spreads):.1%} "
        f"({min(spreads):.1%} to {max(spreads):.1%})",
        f"sold out: {statistics.median(rain.batched_per_s for rain in rains):,.0f} answers/s by batches, "
        f"{statistics.median(rain.single_per_s for rain in rains):,.0f} one by one, "
        f"{max(rain.calls_per_answer for rain in rains):.4f} script calls per answer at most",
    ]


def measure(sizes: Sizes, console: Console) -> list[list[Rain]]:
    """On servers of its own. Raises WrongError, OperatorError."""
    with stage() as prepared, redis_cluster(prepared, "cluster", MASTERS) as cluster:
        rounds = uvloop.run(_rains(_settings(prepared, cluster, sizes), cluster, sizes, console))
    for line in summary(rounds):
        console.print(line, markup=False)
    return rounds


def _settings(prepared: Stage, cluster: EmbeddedRedisCluster, sizes: Sizes) -> Settings:
    database = prepared.create_database()
    wait(schema.migrate(prepared.database_url(database)))
    # What a grab costs is measured, and not how soon it is answered.
    return prepared.settings(
        database, redis_url=cluster.url, lanes=LANES, claim_wait_ms_max=60_000, claim_queue_max=100_000
    )


def main(arguments: list[str]) -> int:
    """Returns 0 if it was measured, 1 if it could not be, 130 if stopped."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rain", description=__doc__)
    told = {"rounds": "of two rains", "users": "of each rain", "late": "taps after its end", "at-once": "batches"}
    for name, what in told.items():
        parser.add_argument(
            f"--{name}", type=int, default=getattr(Sizes(), name.replace("-", "_")), help=f"{what} (%(default)s)"
        )
    print_anything()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    console = Console(highlight=False, soft_wrap=True)
    try:
        measure(Sizes(**vars(parser.parse_args(arguments))), console)
    except KeyboardInterrupt:
        console.print("Stopped; nothing is left running.")
        return 130
    except (WrongError, OperatorError) as error:
        console.print(f"Not measured: {error}", markup=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
