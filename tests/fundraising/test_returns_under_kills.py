"""A fundraiser misses its goal, and sweepers and persister are killed again and again while its gifts go back.

Each gift comes back exactly once. ``--gifts 20000`` does it with as many.
"""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from engine.auditing.audit import audit
from engine.engine import Engine
from engine.fundraising.views import FundraiserState
from engine.records import Outcome
from engine.settings import Settings
from tests.support.funds import give, let_time_be_over, make_fundraiser, match
from tests.support.scenes import assert_books_balance, caught_up, changed, fund, kill, persisting, send
from tests.support.waiting import wait_until
from tests.support.warm import warm

pytestmark = pytest.mark.long

SWEEP = """
import asyncio, sys
import uvloop
from engine.fundraising import settling
from engine.running.processes import run_sweeper
from engine.settings import Settings
settling.RETURNED_AT_ONCE = int(sys.argv[2])
uvloop.run(run_sweeper(Settings.model_validate_json(sys.argv[1]), asyncio.Event()))
"""
PERSIST = """
import asyncio, sys
import uvloop
from engine.running.processes import run_persister
from engine.settings import Settings
uvloop.run(run_persister(Settings.model_validate_json(sys.argv[1]), asyncio.Event()))
"""
TOGETHER = 20
KILLS_MIN = 5
MATCHES = (("mall", 50, 1_234_567), ("shop", 3, 999))
Item = TypeVar("Item")


@dataclass
class Scene:
    """A fundraiser with its gifts. ``due_fen``: what each user must have in the end."""

    engine: Engine
    settings: Settings
    chance: random.Random
    number: str
    count: int
    due_fen: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    killed: Counter[str] = field(default_factory=Counter)
    killed_in_the_middle: int = 0

    async def give_all(self) -> float:
        """All gifts, twenty at once, from fewer users than gifts. Returns how many seconds they took."""
        givers = [f"user{self.chance.randrange(max(1, self.count * 4 // 5))}" for _ in range(self.count)]
        amounts = [self.chance.randrange(1, 5_000) for _ in range(self.count)]
        for giver, amount_fen in zip(givers, amounts, strict=True):
            self.due_fen[giver] += amount_fen
        waiting = iter(list(self.due_fen.items()))
        await together(lambda: next(waiting, None), lambda user: fund(self.engine, *user))
        began_s, gifts = time.perf_counter(), iter(zip(givers, amounts, strict=True))
        await together(
            lambda: next(gifts, None), lambda gift: give(self.engine, self.number, gift[0], gift[1], has_money=False)
        )
        return time.perf_counter() - began_s

    async def returned(self) -> int:
        """How many gifts are back. The fund, its rows and the ledger agree on it at every moment."""
        (row,) = await self.engine.pool.fetch(
            "SELECT returned_count, given_fen - returned_fen + matched_fen AS due_fen, state, balance_fen, "
            "(SELECT count(*) FROM fundraiser_gifts WHERE return_transfer_id IS NOT NULL) AS rows, "
            "(SELECT count(*) FROM transfers WHERE kind = 'gift_return') AS entries "
            "FROM fundraisers JOIN accounts USING (account_id)"
        )
        count: int = row["returned_count"]
        assert row["rows"] == row["entries"] == count
        assert row["balance_fen"] == (0 if row["state"] == "returned" else row["due_fen"])
        return count

    async def is_over(self) -> bool:
        view = await self.engine.fundraiser_views.get(self.number)
        return view.state is FundraiserState.RETURNED

    async def claim_meanwhile(self, stop: asyncio.Event) -> None:
        """The same users win shares, so that the persister locks the same wallets."""
        users = sorted(self.due_fen)
        while not stop.is_set():
            packet_id = (await send(self.engine, "alice", total_fen=5_000, count=50)).packet_id
            chosen = self.chance.sample(users, min(50, len(users)))
            results = await asyncio.gather(*(self.engine.claims.claim(packet_id, user) for user in chosen))
            for user, result in zip(chosen, results, strict=True):
                if result.outcome is Outcome.CLAIMED:
                    self.due_fen[user] += result.amount_fen

    async def kill_until_over(self, at_once: int) -> None:
        """Kill a process, or all of them, each time when some more gifts are back, and start it again."""
        words = (self.settings.model_dump_json(), str(at_once))
        codes = {"sweeper 1": SWEEP, "sweeper 2": SWEEP, "persister": PERSIST}
        running = {name: warm().start(code, *words) for name, code in codes.items()}
        try:
            while not await self.is_over():
                wanted = await self.returned() + self.chance.randrange(1, max(2, self.count // 20))

                async def has_come(wanted: int = wanted) -> bool:
                    return await self.returned() >= min(wanted, self.count)

                await wait_until(has_come, timeout_s=60, what=f"the return of {wanted} gifts")
                for name in self.chance.choice([["sweeper 1"], ["sweeper 2"], ["persister"], list(codes)]):
                    assert running[name].returncode is None, running[name].said()
                    kill(running[name])
                    self.killed[name] += 1
                    self.killed_in_the_middle += await self.returned() < self.count
                    running[name] = warm().start(codes[name], *words)
        finally:
            for process in running.values():
                kill(process)


async def test_each_gift_comes_back_once(
    settings: Settings, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    count = int(pytestconfig.getoption("--gifts"))
    roomy = changed(settings, database_pool_max=8, alert_sends_a_minute_max=0)
    async with Engine.open(roomy) as engine:
        number = await make_fundraiser(engine, goal_fen=10**12)
        scene = Scene(engine, settings, random.Random(20_261_130), number, count)
        for merchant, percent, budget_fen in MATCHES:
            await match(engine, number, merchant, percent=percent, budget_fen=budget_fen)
        took_s = await scene.give_all()
        scene.due_fen.update({merchant: budget_fen for merchant, _, budget_fen in MATCHES})
        assert (await engine.fundraiser_views.get(number)).gift_count == count
        await let_time_be_over(engine, number)

        stop, began_s = asyncio.Event(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            group.create_task(scene.claim_meanwhile(stop))
            await scene.kill_until_over(at_once=max(5, count // 100))
            stop.set()
        returned_s = time.perf_counter() - began_s
        async with persisting(settings):
            await caught_up(engine)

        assert scene.killed_in_the_middle >= KILLS_MIN
        # Givers, sweepers and persister lock in one order.
        deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        assert await engine.pool.fetchval(deadlocks) == 0
        assert await scene.returned() == count
        rows = await engine.pool.fetch("SELECT owner, balance_fen FROM accounts WHERE kind = 'wallet'")
        held = {row["owner"]: row["balance_fen"] for row in rows}
        assert {user: held[user] for user in scene.due_fen} == scene.due_fen
        await assert_books_balance(engine.pool)
        assert [finding for finding in await audit(engine.pool, engine.store, engine.stream) if finding.problems] == []
    with capsys.disabled():
        print(  # noqa: T201  # how long, and what was killed
            f"\n{count:,} gifts in {took_s:.1f} s ({count / took_s:,.0f}/s); returned in {returned_s:.1f} s with "
            f"{scene.killed.total()} kills, {scene.killed_in_the_middle} in the middle: {dict(scene.killed)}"
        )


async def together(take: Callable[[], Item | None], work: Callable[[Item], Coroutine[object, object, object]]) -> None:
    """Do ``work`` for each thing until there is none left to take, for twenty at once."""

    async def keep_on() -> None:
        while (item := take()) is not None:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(TOGETHER):
            group.create_task(keep_on())
