"""Whatever happens in whatever order, the engine says and books what a hundred lines of plain Python do.

The real scripts, persister and ledger; the persister runs, is killed at any moment and begins again; Redis is emptied
and rebuilt. ``--model-operations 1000000`` goes on until there were as many.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import count
from typing import TypeVar
from uuid import uuid4

import pytest
import uvloop
from hypothesis import HealthCheck, Phase, seed
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from engine.auditing.audit import audit
from engine.campaigns import ended as ended_module
from engine.campaigns import terms as campaign_terms_module
from engine.campaigns.draws import order_of
from engine.campaigns.grabbing import Asked, GrabOutcome
from engine.campaigns.register import Campaign
from engine.engine import Engine
from engine.errors import (
    BusyError,
    FrozenError,
    HongbaoError,
    InsufficientFundsError,
    LimitReachedError,
    NotInvitedError,
    UnknownPacketError,
)
from engine.ids import lane_of, new_packet_number
from engine.lanes import keys
from engine.lanes.replies import Closed, CloseReason, Opened
from engine.loops import end
from engine.packets.opening import Funded, funded_from, open_packet
from engine.packets.split import split
from engine.packets.sweeper import sweep_lane
from engine.packets.terms import terms_from
from engine.persisting.persister import Persister
from engine.queries import load
from engine.records import ClaimResult, Outcome, PacketState, SplitKind
from engine.settings import Settings
from tests.support.lost_lanes import mended
from tests.support.model import BUSY, FROZEN, LIMITED, MISSING, REFUSED, Model, Packet
from tests.support.rains import make
from tests.support.scenes import assert_books_balance, caught_up, changed, fund, let_time_run_out
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(7_200)  # for as many operations as are wished for
T = TypeVar("T")
SQL = load("packets")
BACKLOG_MAX = 200
USERS_MAX = 400
FUNDS_FEN = 150_000
OPERATIONS_MIN = 100_000
"""Whoever wants fewer gets as many, unless everything that can happen has happened before."""
EXAMPLES_A_PASS, STEPS = 8, 50
REDIS_LOST_SHARE = 0.1
CAMPAIGNS_MAX = 2
"""Of an example. Each costs some ten requests."""
_PICKED = st.integers(0, 2**32 - 1)
_REFUSALS = {
    BusyError: BUSY,
    FrozenError: FROZEN,
    LimitReachedError: LIMITED,
    NotInvitedError: REFUSED,
    UnknownPacketError: MISSING,
}


_GRABS = {
    Outcome.CLAIMED: GrabOutcome.CLAIMED,
    Outcome.ALREADY: GrabOutcome.ALREADY_CLAIMED,
    Outcome.EMPTY: GrabOutcome.SOLD_OUT,
}


class Running(RuleBasedStateMachine):
    """Sends, claims, lets time run out, closes, kills and loses, in the engine and in the model, and compares."""

    engine: Engine  # of all examples, set by the test
    runner: asyncio.Runner
    seen: Counter[str]
    numbers: Iterator[int]

    @initialize()
    def begin(self) -> None:
        self.model, self.prefix = Model(), f"m{next(self.numbers)}"
        self.persisters: list[asyncio.Task[None]] = []
        self.campaigns: list[Campaign] = []
        self.sender = f"{self.prefix}-sender"
        self.deposit()
        for lane in self.engine.lanes:  # what examples before this one left
            self.run(sweep_lane(self.engine.store, lane, 1_000, 1_000_000))
        self.model.positions.update(self.run(self.positions()))

    def teardown(self) -> None:
        try:
            self.start_persisting()
            self.run(caught_up(self.engine))
            self.run(self.compare())
        finally:
            self.kill_the_persister()
        # Whenever Redis is lost later, each packet that is open must be rebuilt, and this example's are done with.
        left = [packet_id for packet_id, packet in self.model.packets.items() if packet.state is PacketState.OPEN]
        self.run(self.retract_all(left))

    def run(self, step: Coroutine[object, object, T]) -> T:
        return self.runner.get_loop().run_until_complete(step)  # ``Runner.run`` sets a signal handler each time

    def did(self, what: str, times: int = 1) -> None:
        self.seen[what] += times

    @rule()
    def deposit(self) -> None:
        self.run(fund(self.engine, self.sender, FUNDS_FEN))
        self.model.deposit(self.sender, FUNDS_FEN)
        self.did("deposit")

    @rule(
        shares=st.integers(1, 12) | st.integers(1, 300),
        mean_fen=st.integers(1, 400),
        kind=st.sampled_from(SplitKind),
        invited=st.sampled_from([0, 0, 0, 40]),
    )
    def send(self, shares: int, mean_fen: int, kind: SplitKind, invited: int) -> None:
        recipients = [self.user(number) for number in range(invited)] if shares <= invited else []
        total_fen = shares * mean_fen
        terms = terms_from(
            settings=self.engine.settings, total_fen=total_fen, count=shares, split=kind, recipients=recipients
        )
        sending = self.engine.packets.send(self.sender, terms, idempotency_key=uuid4().hex, request_hash=b"send")
        if not self.model.can_send(self.sender, total_fen):
            with pytest.raises(InsufficientFundsError):
                self.run(sending)
            self.did("insufficient funds")
            return
        waiting = self.run(self.waiting())  # before: the persister may have applied all of it by the time of the answer
        try:
            sent = self.run(sending)
        except InsufficientFundsError:
            assert waiting > 0  # what came back to the sender was on its way to the ledger
            self.did("funds on their way")
            return
        assert sent.state is PacketState.OPEN
        row = self.run(self.engine.pool.fetchrow(SQL["packet"], int(sent.packet_id)))
        assert row is not None
        amounts = split(terms.split, terms.total_fen, terms.count, terms.min_fen, terms.max_fen, row["seed"]).tolist()
        self.model.send(sent.packet_id, Packet(self.sender, amounts, frozenset(terms.recipients)))
        self.did("send")

    @rule(claims=st.integers(1, 1_000), packets=st.integers(1, 12), users=st.integers(1, USERS_MAX), picked=_PICKED)
    def claim(self, claims: int, packets: int, users: int, picked: int) -> None:
        chance = random.Random(picked)
        parts = [packet_id for packet_id, packet in self.model.packets.items() if packet.is_part]
        known = [packet_id for packet_id in self.model.packets if packet_id not in parts][-packets:]
        known += [new_packet_number(0)] if chance.random() < 0.1 else []
        known += parts[-1:] if chance.random() < 0.1 else []
        if not known:
            return
        asked = [(chance.choice(known), self.user(chance.randrange(users))) for _ in range(claims)]
        applied_before = self.run(self.applied())
        answers = self.run(self.engine.claims.claim_many(asked))
        self.compare_answers(asked, answers, applied_before)

    @rule(user=st.integers(0, USERS_MAX - 1), picked=_PICKED)
    @precondition(lambda self: self.model.packets)
    def claim_alone(self, user: int, picked: int) -> None:
        packet_id = random.Random(picked).choice([*self.model.packets])
        applied_before = self.run(self.applied())
        answer: ClaimResult | HongbaoError
        try:
            answer = self.run(self.engine.claims.claim(packet_id, self.user(user)))
        except HongbaoError as error:
            answer = error
        self.compare_answers([(packet_id, self.user(user))], [answer], applied_before)

    @rule(shares=st.integers(3, 40), mean_fen=st.integers(1, 400))
    def rain(self, shares: int, mean_fen: int) -> None:
        """A campaign of one wave, in a packet per lane, which goes on until the end of the example."""
        if not self.model.can_send(self.sender, shares * mean_fen) or len(self.campaigns) == CAMPAIGNS_MAX:
            return
        wave = (0, 86_400, shares * mean_fen, shares)
        making = make(self.engine, wave, owner=self.sender, has_money=False)
        try:
            campaign_id = self.run(making).campaign_id
        except InsufficientFundsError:
            return  # as for ``send``
        campaign = self.run(self.engine.grabbing._register.known(campaign_id)).campaign
        for packet_id in campaign.waves[0].buckets:
            row = self.run(self.engine.pool.fetchrow(SQL["packet"], int(packet_id)))
            assert row is not None
            funded = funded_from(row)
            at_ms = self.run(self.engine.store.now_ms(lane_of(packet_id)))
            opening = open_packet(self.engine.store, funded, shares_per_call=100, read_at_ms=at_ms)
            assert self.run(opening) is Opened.OPENED
            amounts = split(*_split_terms(funded)).tolist()
            self.model.send(packet_id, Packet(self.sender, amounts, frozenset(), is_part=True))
        self.campaigns.append(campaign)
        self.did("rain")

    @rule(users=st.lists(st.integers(0, USERS_MAX - 1), min_size=1, max_size=12), picked=_PICKED)
    def grab(self, users: list[int], picked: int) -> None:
        if not self.campaigns:
            return
        campaign = random.Random(picked).choice(self.campaigns)
        wave = campaign.waves[0]
        for number in users:
            user = self.user(number)
            order = order_of(campaign.seed, campaign.campaign_id, wave.number, user, wave.counts)
            passed, packet_id, due = self.model.walk([wave.buckets[bucket] for bucket in order], user)
            applied = self.run(self.applied())
            (grab,) = self.run(self.engine.grabbing.grab_many([Asked(campaign.campaign_id, user)]))
            if isinstance(grab, BusyError):  # a bucket that was passed is not booked, or the backlog is full
                lane = lane_of(packet_id) if packet_id else 0
                assert passed or self.model.positions[lane] - applied[lane] >= BACKLOG_MAX
                self.did("grab: busy")
                continue
            if isinstance(grab, HongbaoError):
                assert _REFUSALS[type(grab)] == due
                continue
            told = [(share.packet_id, share.amount_fen) for share in grab.shares]
            assert (grab.outcome, told) == (_GRABS[due.outcome], [(packet_id, due.amount_fen)] if packet_id else [])
            if due.outcome is Outcome.CLAIMED:
                self.model.give(packet_id, user)
            self.did(f"grab: {grab.outcome}")
        assert self.run(self.positions()) == self.model.positions

    @rule(picked=_PICKED)
    @precondition(lambda self: self.model.packets)
    def run_out(self, picked: int) -> None:
        packet_id = random.Random(picked).choice([*self.model.packets])
        if self.model.packets[packet_id].state is PacketState.OPEN:
            self.run(let_time_run_out(self.engine, packet_id))
            ending = "UPDATE packets SET expires_at_ms = 1 WHERE packet_id = $1"
            self.run(self.engine.pool.execute(ending, int(packet_id)))
            self.model.packets[packet_id].is_over = True
            self.did("time over")

    @rule()
    def sweep(self) -> None:
        for lane in self.engine.lanes:
            closed = self.run(sweep_lane(self.engine.store, lane, 100, 1_000_000))
            due = [packet_id for packet_id in self.model.packets if lane_of(packet_id) == lane]
            ended = [packet_id for packet_id in due if self.model.close(packet_id, PacketState.EXPIRED) is not None]
            assert closed == len(ended)
            self.did("expired", closed)

    @rule(picked=_PICKED)
    @precondition(lambda self: self.model.packets)
    def retract(self, picked: int) -> None:
        packet_id = random.Random(picked).choice([*self.model.packets])
        if self.model.packets[packet_id].state is not PacketState.OPEN:
            return
        reply, _, fen = self.run(self.engine.store.close(packet_id, CloseReason.RETRACTED))
        refunded = self.model.close(packet_id, PacketState.RETRACTED)
        assert (reply is Closed.CLOSED, fen) == (refunded is not None, refunded or 0)
        self.did("retracted", refunded is not None)

    @rule(user=st.integers(0, USERS_MAX - 1), is_frozen=st.booleans())
    def freeze(self, user: int, is_frozen: bool) -> None:
        name, freezes = self.user(user % 20), self.engine.freezes  # some of those that claim most
        if is_frozen:
            assert self.run(freezes.freeze(name, reason="a test", frozen_by="root"))
            self.model.frozen.add(name)
        else:
            assert self.run(freezes.lift(name, reason="a test", lifted_by="root"))
            self.model.frozen.discard(name)
        self.did("frozen" if is_frozen else "lifted")

    @rule(user=st.integers(0, USERS_MAX - 1), is_reached=st.booleans())
    def limit(self, user: int, is_reached: bool) -> None:
        name = self.user(user % 20)
        self.run(self.note_limit(name, is_reached))
        self.model.limited = self.model.limited - {name} | ({name} if is_reached else set())

    @rule()
    def start_persisting(self) -> None:
        if not self.persisters:
            self.persisters = [self.run(self.persister(lane)) for lane in self.engine.lanes]
            self.did("persister started")

    @rule()
    def let_the_persister_work(self) -> None:
        if self.persisters:
            self.run(caught_up(self.engine))

    @rule(turns=st.integers(0, 60))
    def kill_the_persister(self, turns: int = 0) -> None:
        """In the middle of whatever it does: its transaction is lost with it."""
        if self.persisters:
            self.run(self.end_persisters(turns))
            self.did("persister killed")

    @rule(picked=_PICKED)
    def lose_redis(self, picked: int) -> None:
        """All of it, once the ledger has everything; and every lane is rebuilt."""
        if random.Random(picked).random() > REDIS_LOST_SHARE:
            return
        self.start_persisting()
        self.run(caught_up(self.engine))
        self.kill_the_persister()
        self.run(self.lose_and_mend())
        for packet in self.model.packets.values():
            packet.is_rebuilt = packet.state is PacketState.OPEN
        self.did("Redis lost")

    def user(self, number: int) -> str:
        return f"{self.prefix}-{number}"

    def compare_answers(
        self, asked: Sequence[tuple[str, str]], answers: Sequence[ClaimResult | HongbaoError], applied: Counter[int]
    ) -> None:
        """One after the other as the script goes: packet by packet, in the order in which each is first named."""
        of_packet: defaultdict[str, list[tuple[str, ClaimResult]]] = defaultdict(list)
        for (packet_id, user), answer in zip(asked, answers, strict=True):
            told = answer if isinstance(answer, ClaimResult) else _REFUSALS[type(answer)]
            of_packet[packet_id].append((user, told))
        for packet_id, tellings in of_packet.items():
            lane = lane_of(packet_id)
            packet = self.model.packets.get(packet_id)
            had_shares = packet is not None and len(packet.claims) < len(packet.amounts)
            for user, told in tellings:
                due = self.model.claim(packet_id, user, had_shares=had_shares)
                if told == BUSY and due.outcome is Outcome.CLAIMED:
                    # The persister may be further by now, but not back where it was before the claim.
                    assert self.model.positions[lane] - applied[lane] >= BACKLOG_MAX
                else:
                    assert told == due
                    if due.outcome is Outcome.CLAIMED:
                        self.model.give(packet_id, user)
                self.did(told.outcome.name)
        assert self.run(self.positions()) == self.model.positions

    async def retract_all(self, packet_ids: list[str]) -> None:
        await asyncio.gather(*(self.engine.store.close(packet_id, CloseReason.RETRACTED) for packet_id in packet_ids))

    async def positions(self) -> Counter[int]:
        return await self.lane_numbers("position")

    async def applied(self) -> Counter[int]:
        return await self.lane_numbers("applied")

    async def lane_numbers(self, field: str) -> Counter[int]:
        """One of each lane's, in one call and without what else its status takes: they are read with every step."""
        async with self.engine.redis.pipeline(transaction=False) as pipeline:
            for lane in self.engine.lanes:
                pipeline.hget(keys.lane(lane), field)
            found = await pipeline.execute()
        return Counter({lane: int(number or 0) for lane, number in zip(self.engine.lanes, found, strict=True)})

    async def waiting(self) -> int:
        return (await self.positions() - await self.applied()).total()

    async def persister(self, lane: int) -> asyncio.Task[None]:
        engine = self.engine
        return asyncio.create_task(Persister(engine.settings, engine.store, engine.stream, lane).run())

    async def end_persisters(self, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in self.persisters:
            await end(task)
        self.persisters = []

    async def lose_and_mend(self) -> None:
        before = dict(self.engine.store.epochs)
        await self.engine.redis.flushall()
        for lane in self.engine.lanes:
            await mended(self.engine, lane)
            self.engine.store.on_fenced(lane)  # as the first call to it does, so that its epoch is looked up at once
        await wait_until(lambda: all(self.engine.store.epochs[lane] != before[lane] for lane in before))

    async def note_limit(self, user: str, is_reached: bool) -> None:
        """As engine/risk/receiving.py does when it finds that a user has received so much, or may receive more."""
        await self.engine.pool.execute(
            "INSERT INTO limits_reached (user_id, is_reached, limit_fen, received_fen, at_ms, until_ms) "
            "VALUES ($1, $2, 1, 1, 1, $3)",
            *(user, is_reached, 2**50),
        )
        assert await self.engine.limits_reached.spread()

    async def compare(self) -> None:
        """The ledger has what the model has, to the fen."""
        pool = self.engine.pool
        numbers = [int(packet_id) for packet_id in self.model.packets]
        rows = await pool.fetch("SELECT packet_id, state::text FROM packets WHERE packet_id = ANY($1)", numbers)
        assert {str(row["packet_id"]): row["state"] for row in rows} == {
            packet_id: packet.state.value for packet_id, packet in self.model.packets.items()
        }
        rows = await pool.fetch(
            "SELECT from_account, owner, amount_fen FROM transfers JOIN accounts ON account_id = to_account "
            "WHERE transfers.kind = 'claim' AND from_account = ANY($1)",
            numbers,
        )
        assert Counter((str(row["from_account"]), row["owner"], row["amount_fen"]) for row in rows) == Counter(
            (packet_id, user, amount_fen)
            for packet_id, packet in self.model.packets.items()
            for user, amount_fen in packet.claims.items()
        )
        owners = [*self.model.wallets]
        rows = await pool.fetch("SELECT owner, balance_fen FROM accounts WHERE owner = ANY($1)", owners)
        assert {row["owner"]: row["balance_fen"] for row in rows} == dict(self.model.wallets)
        ended = {packet_id for packet_id, packet in self.model.packets.items() if packet.state is not PacketState.OPEN}
        rows = await pool.fetch("SELECT account_id, balance_fen FROM accounts WHERE account_id = ANY($1)", numbers)
        assert {str(row["account_id"]): row["balance_fen"] for row in rows} == {
            packet_id: 0 if packet_id in ended else packet.rest_fen for packet_id, packet in self.model.packets.items()
        }
        await assert_books_balance(pool)


def _split_terms(funded: Funded) -> tuple[SplitKind, int, int, int, int, bytes]:
    return (funded.split, funded.total_fen, funded.count, funded.min_fen, funded.max_fen, funded.seed)


@pytest.mark.long
def test_the_engine_says_and_books_what_the_model_does(
    settings: Settings,
    pytestconfig: pytest.Config,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(campaign_terms_module, "LEAD_S_MIN", 0)
    monkeypatch.setattr(ended_module, "_POLLS_MAX", 1)  # a killed persister books nothing, however long one waits
    wanted = int(pytestconfig.getoption("--model-operations"))
    happened = {"send", "expired", "retracted", "time over", "persister killed", "Redis lost", "insufficient funds"}
    # Of transfers that have not arrived tests/claiming/test_claim_model.py knows.
    happened |= {f"grab: {outcome}" for outcome in (*_GRABS.values(), "busy")}
    happened |= {outcome.name for outcome in Outcome} - {"HELD"}
    here = changed(settings, backlog_max=BACKLOG_MAX, claim_queue_max=5_000, deposit_fen_max=FUNDS_FEN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as event_loop:
        stack = AsyncExitStack()

        class Here(Running):
            engine = event_loop.run(stack.enter_async_context(Engine.open(here)))
            runner, seen, numbers = event_loop, Counter(), count()

        try:
            for number in count():
                run_state_machine_as_test(
                    seed(number)(Here),
                    settings=example_settings(),
                )
                if Here.seen.total() >= max(wanted, 0 if happened <= Here.seen.keys() else OPERATIONS_MIN):
                    break
            findings = event_loop.run(audit(Here.engine.pool, Here.engine.store, Here.engine.stream))
        finally:
            event_loop.run(stack.aclose())
    assert [finding for finding in findings if not finding.holds] == []
    with capsys.disabled():
        print(f"\n{Here.seen.total():,} operations: {dict(Here.seen.most_common())}")  # noqa: T201 - how many, and of what
    assert Here.seen.keys() >= happened


def example_settings() -> examples:
    """Shrinking fifty steps on servers takes longer than a test may; the steps as they were tell enough."""
    return examples(
        max_examples=EXAMPLES_A_PASS,
        stateful_step_count=STEPS,
        derandomize=False,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
