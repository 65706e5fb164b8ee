"""Exactly once, shown by force: the persister is killed again and again while claims go on."""

import asyncio
import random
from collections import defaultdict
from dataclasses import dataclass, field

import pytest

from engine.auditing.audit import audit
from engine.engine import Engine
from engine.lanes import keys
from engine.records import Outcome, PacketState, SplitKind
from engine.settings import Settings
from tests.support.scenes import (
    assert_books_balance,
    assert_settled_keys_expire,
    caught_up,
    checkpoints,
    kill,
    lag,
    persister_process,
    persisting,
    send,
    settled,
    sweeping,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long

KILLS = 16
LAG_MAX = 2_000


@dataclass
class Storm:
    """Sends packets and lets more users claim than there are shares, until it is told to stop."""

    engine: Engine
    seed: int
    told: defaultdict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """One packet after the other; every fifth has too few claimers and runs out."""
        number = 0
        while not self.stopping.is_set():
            runs_out = number % 5 == 0
            split = SplitKind.EQUAL if number % 3 == 0 else SplitKind.LUCKY
            terms = {"ttl_s": 1} if runs_out else {}
            sent = await send(self.engine, f"sender{self.seed}", total_fen=4_000, count=40, split=split, **terms)
            await self.claim(sent.packet_id, [f"user{user}" for user in range(25 if runs_out else 60)], number)
            number += 1

            async def is_keeping_up() -> bool:
                return self.stopping.is_set() or await lag(self.engine) < LAG_MAX

            await wait_until(is_keeping_up, timeout_s=30, what="the persister's keeping up")

    async def claim(self, packet_id: str, users: list[str], number: int) -> None:
        """All users at once, in some order, some twice; notes what each was told to have."""
        asking = users + users[::3]
        random.Random(self.seed * 1_000 + number).shuffle(asking)
        results = await asyncio.gather(*(self.engine.claims.claim(packet_id, user) for user in asking))
        for user, result in zip(asking, results, strict=True):
            if result.outcome in (Outcome.CLAIMED, Outcome.ALREADY):
                assert self.told[packet_id].setdefault(user, result.amount_fen) == result.amount_fen
            else:
                # One that a share was given to may not be told that there is none.
                assert user not in self.told[packet_id]


async def assert_stream_joins_checkpoint(engine: Engine) -> None:
    """What the ledger lacks is in the stream, beginning right after the checkpoint. For when no persister runs."""
    for lane, checkpoint in (await checkpoints(engine)).items():
        status = await engine.store.lane_status(lane)
        assert status is not None
        assert status.applied <= checkpoint <= status.position
        reached, waiting = checkpoint, await engine.stream.page(lane, after=checkpoint)
        for entry in waiting:
            assert entry.position - entry.event.changes == reached
            reached = entry.position
        assert len(waiting) == 1_000 or reached >= status.position


async def claims_in_ledger(engine: Engine) -> dict[str, dict[str, int]]:
    """Packet -> user -> amount."""
    held: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for row in await engine.pool.fetch(
        "SELECT from_account, owner, amount_fen FROM transfers JOIN accounts ON account_id = to_account "
        "WHERE transfers.kind = 'claim'"
    ):
        held[str(row["from_account"])][row["owner"]] = row["amount_fen"]
    return held


async def test_a_persister_killed_again_and_again_loses_nothing_and_repeats_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its moments of death are seeded by how many changes it may apply; it dies with work in its hands."""
    monkeypatch.setattr("engine.persisting.persister.BATCH_MAX", 25)
    moments, kills = random.Random(20_260_211), 0
    async with Engine.open(settings) as engine:
        storms = [Storm(engine, seed) for seed in range(2)]
        async with sweeping(settings), asyncio.TaskGroup() as group:
            for storm in storms:
                group.create_task(storm.run())
            killed_at_work = 0
            while killed_at_work < KILLS:
                kills += 1
                assert kills <= 10 * KILLS
                allowed = sum((await checkpoints(engine)).values()) + moments.randrange(1, 500)
                with persister_process(settings) as process:

                    async def has_applied(allowed: int = allowed) -> bool:
                        return sum((await checkpoints(engine)).values()) >= allowed

                    await wait_until(has_applied, timeout_s=30, what="the persister's applying something")
                    assert process.returncode is None
                    kill(process)
                killed_at_work += await lag(engine) > 0
                await assert_stream_joins_checkpoint(engine)
            for storm in storms:
                storm.stopping.set()
        told = {packet_id: amounts for storm in storms for packet_id, amounts in storm.told.items()}
        async with sweeping(settings), persisting(settings):
            await settled(engine, *told)
            await caught_up(engine)

        assert await claims_in_ledger(engine) == told
        assert sum(map(len, told.values())) > KILLS * 100
        await assert_books_balance(engine.pool)
        assert await engine.pool.fetchval("SELECT sum(balance_fen) FROM accounts WHERE kind = 'custody'") == 0
        states = await engine.pool.fetch("SELECT state::text, count(*) FROM packets GROUP BY state ORDER BY state")
        assert {row["state"] for row in states} == {PacketState.EXHAUSTED, PacketState.EXPIRED}
        assert await engine.pool.fetchval("SELECT count(*) FROM quarantine") == 0
        assert [await engine.redis.xlen(keys.events(lane)) for lane in engine.lanes] == [0, 0]
        await assert_settled_keys_expire(engine)
        assert [finding for finding in await audit(engine.pool, engine.store, engine.stream) if finding.problems] == []
