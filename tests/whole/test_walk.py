"""A long walk over every operation at once, while what runs beside the API is killed again and again; then the audit.

Users send, claim, look, take back, consent, transfer, confirm, cancel, withdraw, complain and are frozen, many at a
time; some of the calls are cut off in the middle, as by a process that dies. ``--walk-operations`` says how many.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from engine.auditing.audit import audit
from engine.disputes.filing import Complaint, DisputeKind, DisputeState
from engine.engine import Engine
from engine.errors import HongbaoError, UnavailableError
from engine.ids import lane_of
from engine.lanes import keys
from engine.lanes.clients import command
from engine.packets.terms import terms_from
from engine.records import FreezeScope, Outcome, PacketState, SplitKind
from engine.settings import Settings
from engine.transfers.transfers import TransferState
from tests.support.scenes import (
    assert_books_balance,
    caught_up,
    changed,
    claimed,
    fund,
    kill,
    let_time_run_out,
    persisting,
    sweeping,
)
from tests.support.waiting import wait_until
from tests.support.warm import Forked, warm

pytestmark = pytest.mark.timeout(1_800)
USERS = [f"user{number}" for number in range(40)]
HANDS = 16
KILLS_MIN = 10
PASSWORD = "135790"
_RUN = """
import asyncio, sys
import uvloop
from engine.running.processes import {name}
from engine.settings import Settings
uvloop.run({name}(Settings.model_validate_json(sys.argv[1]), asyncio.Event()))
"""


@dataclass
class Walk:
    """What was done, and what somebody was told and may hold us to."""

    engine: Engine
    chance: random.Random
    wanted: int
    done: Counter[str] = field(default_factory=Counter)
    packets: list[str] = field(default_factory=list)
    transfers: list[str] = field(default_factory=list)
    amounts: dict[tuple[str, str], int] = field(default_factory=dict)
    taken_back: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    withdrawals: list[tuple[str, str]] = field(default_factory=list)
    disputes: list[int] = field(default_factory=list)
    kills: int = 0

    @property
    def is_over(self) -> bool:
        """Whether enough was done, and enough was killed meanwhile."""
        return self.done.total() >= self.wanted and self.kills >= KILLS_MIN

    def user(self) -> str:
        return self.chance.choice(USERS)

    def recent(self, numbers: list[str]) -> str | None:
        """One of the last: on older ones there is nothing left to happen."""
        return self.chance.choice(numbers[-12:]) if numbers else None

    async def deposit(self) -> None:
        await fund(self.engine, self.user(), 50_000)

    async def send(self) -> None:
        count = self.chance.choice([1, 2, 5, 30])
        kind = self.chance.choice([*SplitKind])
        recipients = self.chance.sample(USERS, max(3, count)) if self.chance.random() < 0.2 else []
        terms = terms_from(
            settings=self.engine.settings,
            total_fen=count * self.chance.randrange(1, 300),
            count=count,
            split=kind,
            recipients=recipients,
        )
        sent = await self.engine.packets.send(
            self.user(), terms, idempotency_key=uuid4().hex, request_hash=b"send", address="127.0.0.1"
        )
        self.packets.append(sent.packet_id)

    async def claim(self) -> None:
        known = self.packets[-12:]
        if not known:
            return
        asked = [(self.chance.choice(known), self.user()) for _ in range(self.chance.choice([1, 1, 2, 8]))]
        answers = await self.engine.claims.claim_many(asked)
        for claim, answer in zip(asked, answers, strict=True):
            self.done["claim"] += 1
            if not isinstance(answer, HongbaoError) and answer.outcome in (Outcome.CLAIMED, Outcome.ALREADY):
                assert self.amounts.setdefault(claim, answer.amount_fen) == answer.amount_fen

    async def view(self) -> None:
        if packet_id := self.recent(self.packets):
            await self.engine.retractions.view(packet_id, self.user())

    async def consent(self) -> None:
        if packet_id := self.recent(self.packets):
            await self.engine.retractions.consent(packet_id, self.user())

    async def take_back(self) -> None:
        if packet_id := self.recent(self.packets):
            sender = (await self.engine.views.packet(packet_id)).sender
            await self.engine.retractions.retract(packet_id, sender, confirmed=True)
            self.taken_back.add(packet_id)

    async def transfer(self) -> None:
        sender, to = self.chance.sample(USERS, 2)
        arrives_after_s = self.chance.choice([None, 7_200])
        sent, _ = await self.engine.transfers.send(
            sender,
            to,
            self.chance.randrange(1, 5_000),
            arrives_after_s=arrives_after_s,
            idempotency_key=uuid4().hex,
            request_hash=b"transfer",
        )
        self.transfers.append(sent.transfer_id)

    async def confirm(self) -> None:
        if transfer_id := self.recent(self.transfers):
            transfer = await self.engine.transfers.get(transfer_id, None)
            await self.engine.transfers.confirm(transfer_id, transfer.to)
            self.amounts[transfer_id, transfer.to] = transfer.amount_fen

    async def cancel(self) -> None:
        if transfer_id := self.recent(self.transfers):
            sender = (await self.engine.transfers.get(transfer_id, None)).sender
            assert (await self.engine.transfers.cancel(transfer_id, sender)).state is TransferState.CANCELLED
            self.cancelled.add(transfer_id)

    async def let_arrive(self) -> None:
        if transfer_id := self.recent(self.transfers):
            state = await self.engine.redis.hget(keys.packet(transfer_id), "state")
            if state == b"held":
                query = "UPDATE packets SET arrives_at_ms = 1 WHERE packet_id = $1 AND arrives_at_ms IS NOT NULL"
                await self.engine.pool.execute(query, int(transfer_id))
                await command(self.engine.redis, "HSET", keys.packet(transfer_id), "arrives_at_ms", 1)
                await command(self.engine.redis, "ZADD", keys.due(lane_of(transfer_id)), "XX", 1, transfer_id)

    async def run_out(self) -> None:
        if number := self.recent(self.chance.choice([self.packets, self.transfers])):
            await let_time_run_out(self.engine, number)

    async def withdraw(self) -> None:
        user = self.user()
        asked = await self.engine.withdrawals.withdraw(
            user,
            self.chance.randrange(1, 8_000),
            self.chance.choice(["6222020200112233", "6222020200110000"]),  # the second one fails
            PASSWORD,
            idempotency_key=uuid4().hex,
            request_hash=b"withdraw",
        )
        self.withdrawals.append((user, asked.withdrawal.withdrawal_id))

    async def freeze(self) -> None:
        scope = self.chance.choice([*FreezeScope])
        await self.engine.freezes.freeze(self.user(), reason="a walk", frozen_by="root", scope=scope)

    async def lift(self) -> None:
        """Of ten users whatever is in force, and of one more what may not be."""
        for user in self.chance.sample(USERS, 10):
            for scope in await self.engine.freezes.in_force(user):
                await self.engine.freezes.lift(user, reason="a walk", lifted_by="root", scope=scope)
        await self.engine.freezes.lift(self.user(), reason="a walk", lifted_by="root", scope=FreezeScope.ACCOUNT)

    async def dispute(self) -> None:
        """A sender complains of somebody who has a share or a transfer, or of the system."""
        number = self.recent(self.chance.choice([self.packets, self.transfers]))
        if number is None:
            return
        packet = await self.engine.views.packet(number)
        claims = (await self.engine.views.claims(number, after=None, limit=10)).claims
        kind = self.chance.choice([*DisputeKind])
        if not claims and kind is not DisputeKind.SYSTEM_FAULT:
            return
        counterparty = None if kind is DisputeKind.SYSTEM_FAULT else self.chance.choice(claims).user_id
        complaint = Complaint(kind, number, packet.created_at_ms, counterparty, ("it was like this",))
        filed = await self.engine.disputes.file(packet.sender, complaint)
        self.disputes.append(int(filed.dispute_id))

    async def decide(self) -> None:
        if self.disputes:
            outcome = self.chance.choice([DisputeState.UPHELD, DisputeState.REJECTED])
            dispute_id = self.chance.choice(self.disputes[-5:])
            await self.engine.dispute_decisions.decide(dispute_id, outcome, reason="seen", decided_by="root")

    async def hand(self, steps: list[Callable[[], Awaitable[None]]], weights: list[int]) -> None:
        """One after the other, whatever it is refused."""
        while not self.is_over:
            (step,) = self.chance.choices(steps, weights)
            name = step.__name__
            doing = asyncio.ensure_future(step())
            try:
                if self.chance.random() < 0.02:
                    for _ in range(self.chance.randrange(30)):
                        await asyncio.sleep(0)
                    doing.cancel()
                    self.done["cut off"] += 1
                await doing
                self.done[name] += name != "claim"
            except asyncio.CancelledError:
                self.done[f"{name}, cut off"] += 1
            except UnavailableError:
                self.done[f"{name}, not now"] += 1
            except HongbaoError as error:
                self.done[f"{name}, {error.code}"] += 1

    async def a_while(self, operations: int) -> None:
        """Until so many were done."""
        await wait_until(lambda: self.done.total() >= operations or self.is_over, timeout_s=60, what="a while")

    async def break_things(self, settings: Settings) -> None:
        """Kill the persister or the sweeper at a moment of chance, and start it again."""
        running = {name: start(name, settings) for name in ("run_persister", "run_sweeper")}
        try:
            while not self.is_over:
                await self.a_while(self.done.total() + self.chance.randrange(200, 1_500))
                name = self.chance.choice([*running])
                await asyncio.to_thread(kill, running[name])
                running[name] = start(name, settings)
                self.kills += 1
        finally:
            for process in running.values():
                await asyncio.to_thread(kill, process)


def start(name: str, settings: Settings) -> Forked:
    return warm().start(_RUN.format(name=name), settings.model_dump_json())


@pytest.mark.long
async def test_the_books_close_after_a_walk_over_everything(
    settings: Settings, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    here = changed(
        settings,
        retractions_an_hour_max=5,
        dispute_above_fen=1,
        disputes_a_year_max=1_000,
        payment_password_hash_kib=64,
        payout_interval_s=0.05,
        sandbox_payout_s=0.05,
        database_pool_max=8,
    )
    async with Engine.open(here) as engine:
        wanted = int(pytestconfig.getoption("--walk-operations"))
        walk = Walk(engine, random.Random(pytestconfig.getoption("--walk-seed")), wanted)
        for user in USERS:
            await fund(engine, user, 200_000)
            await engine.payment_passwords.put(user, PASSWORD, None)
        steps = {
            walk.send: 8,
            walk.claim: 20,
            walk.view: 4,
            walk.consent: 3,
            walk.take_back: 4,
            walk.transfer: 6,
            walk.confirm: 4,
            walk.cancel: 3,
            walk.let_arrive: 4,
            walk.run_out: 2,
            walk.withdraw: 4,
            walk.deposit: 3,
            walk.freeze: 1,
            walk.lift: 1,
            walk.dispute: 3,
            walk.decide: 3,
        }
        hands = [walk.hand([*steps], [*steps.values()]) for _ in range(HANDS)]
        await asyncio.gather(walk.break_things(here), *hands)
        async with persisting(here), sweeping(here):
            await everything_ended(engine)
        await hold_to_what_was_told(walk)
        findings = await audit(engine.pool, engine.store, engine.stream)
    assert [finding for finding in findings if not finding.holds] == []
    with capsys.disabled():
        print(f"\n{walk.done.total():,} operations, {walk.kills} kills: {dict(walk.done.most_common())}")  # noqa: T201 - what it was
    assert {name.__name__ for name in steps} <= walk.done.keys()


async def everything_ended(engine: Engine) -> None:
    """Wait for the ledger, for banks, and for transfers that have arrived."""

    async def is_paid_out() -> bool:
        return not await engine.pool.fetchval("SELECT count(*) FROM withdrawals WHERE state = 'processing'")

    await wait_until(is_paid_out, timeout_s=60, what="the payouts")
    await caught_up(engine, timeout_s=60)


async def hold_to_what_was_told(walk: Walk) -> None:
    """Every amount that somebody saw is in the ledger, and what was taken back or cancelled nobody has."""
    pool = walk.engine.pool
    given = {number: await claimed(pool, number) for number in {packet_id for packet_id, _ in walk.amounts}}
    for (packet_id, user), amount_fen in walk.amounts.items():
        assert given[packet_id][user] == amount_fen
    back = [int(number) for number in walk.taken_back | walk.cancelled]
    rows = await pool.fetch("SELECT state::text, count(*) FROM packets WHERE packet_id = ANY($1) GROUP BY 1", back)
    assert {row["state"]: row["count"] for row in rows} == {PacketState.RETRACTED: len(back)}
    rows = await pool.fetch("SELECT withdrawal_id, state FROM withdrawals")
    states = {str(row["withdrawal_id"]): row["state"] for row in rows}
    assert {states[str(withdrawal_id)] for _, withdrawal_id in walk.withdrawals} == {"settled", "failed"}
    await assert_books_balance(pool)
