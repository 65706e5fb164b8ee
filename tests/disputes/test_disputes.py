"""Disputes: who may file which, who is frozen meanwhile, and that a decision moves money once or is owed."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date

import asyncpg
import pytest

from engine.auditing.audit import audit
from engine.calendar.china_time import begin_ms, day_of, today
from engine.disputes.deciding import follow_disputes, give_back, tell_overdue
from engine.disputes.filing import SQL as DISPUTES
from engine.disputes.filing import Dispute, DisputeKind, DisputeState, deadlines
from engine.engine import Engine
from engine.errors import (
    BelowManualHandlingError,
    DisputeDecidedError,
    DisputeOpenError,
    FrozenError,
    InvalidFieldsError,
    NotSenderError,
    TooManyDisputesError,
    UnknownDisputeError,
    UnknownTransactionError,
)
from engine.ids import new_packet_number
from engine.queries import load
from engine.records import Outcome, PacketState, SplitKind
from engine.settings import Settings
from tests.recovery.test_recovery import epochs_known
from tests.support.days import whole_day
from tests.support.dispute_scene import (
    FAULT,
    FRAUD,
    MINOR,
    REJECTED,
    UPHELD,
    Scene,
    claimed_packet,
    open_scene,
    with_small_disputes,
)
from tests.support.lost_lanes import mended
from tests.support.scenes import assert_books_balance, caught_up, changed, pay_only, persisting, send, settled, sweeping
from tests.support.waiting import wait_until

RULES = load("limits")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_small_disputes(settings)


@pytest.fixture
async def scene(settings: Settings) -> AsyncIterator[Scene]:
    async with open_scene(settings) as scene:
        yield scene
        await assert_books_balance(scene.engine.pool)


async def test_fraud_freezes_the_counterparty_while_it_is_open(scene: Scene) -> None:
    dispute = await scene.file()
    assert (dispute.state, dispute.amount_fen, dispute.counterparty) == (DisputeState.OPEN, 2_000, "bob")
    assert await scene.is_frozen("bob")
    other = (await send(scene.engine, total_fen=200, count=2, split=SplitKind.EQUAL)).packet_id
    with pytest.raises(FrozenError):
        await send(scene.engine, "bob", total_fen=10, count=1)
    (freeze,) = await scene.engine.freezes.of("bob")
    assert (freeze.frozen_by, scene.number in freeze.reason) == ("dispute", True)
    with pytest.raises(FrozenError):
        await scene.engine.claims.claim(other, "bob")
    await scene.decide(dispute, REJECTED)
    assert not await scene.is_frozen("bob")
    result = await scene.engine.claims.claim(other, "bob")
    assert result.outcome is Outcome.CLAIMED


async def test_a_freeze_by_somebody_else_stays(scene: Scene) -> None:
    await scene.engine.freezes.freeze("bob", reason="watched", frozen_by="root")
    dispute = await scene.file()
    await scene.decide(dispute, UPHELD)
    assert await scene.is_frozen("bob")
    in_force = [freeze.frozen_by for freeze in await scene.engine.freezes.of("bob") if freeze.lifted_at_ms is None]
    assert in_force == ["root"]


async def test_upheld_is_a_correcting_transfer_and_no_share_is_reversed(scene: Scene) -> None:
    shares = await scene.engine.pool.fetch("SELECT * FROM transfers WHERE kind = 'claim' ORDER BY transfer_id")
    dispute = await scene.file(MINOR)
    assert not await scene.is_frozen("bob")
    decided = await scene.decide(dispute, UPHELD)
    assert (decided.state, decided.debt_id, decided.decision_reason) == (UPHELD, None, "seen")
    assert await scene.balances() == [2_000, 0, 2_000]
    row = await scene.engine.pool.fetchrow(
        "SELECT * FROM transfers WHERE transfer_id = $1", int(decided.transfer_id or 0)
    )
    assert row is not None
    assert (row["kind"], row["amount_fen"]) == ("correction", 2_000)
    assert shares == await scene.engine.pool.fetch("SELECT * FROM transfers WHERE kind = 'claim' ORDER BY transfer_id")
    findings = await audit(scene.engine.pool, scene.engine.store, scene.engine.stream)
    assert [finding.problems for finding in findings if not finding.holds and finding.invariant != "redis_agrees"] == []


async def test_what_the_wallet_does_not_hold_is_owed(scene: Scene) -> None:
    await scene.spend("bob", 1)
    dispute = await scene.file()
    decided = await scene.decide(dispute, UPHELD)
    assert (decided.transfer_id, decided.debt_id is None) == (None, False)
    assert await scene.balances() == [0, 1_999, 2_000]
    (debt,) = (await scene.engine.profiles.account("bob")).debts
    assert (debt.creditor, debt.amount_fen, str(debt.dispute_id)) == ("alice", 2_000, dispute.dispute_id)
    assert await scene.decide(dispute, UPHELD) == decided
    assert len((await scene.engine.profiles.account("bob")).debts) == 1


async def test_a_decision_is_made_once(scene: Scene) -> None:
    dispute = await scene.file()
    decided = await asyncio.gather(*(scene.decide(dispute, UPHELD) for _ in range(5)))
    assert [one == decided[0] for one in decided] == [True] * 5
    assert await scene.corrections() == 1
    with pytest.raises(DisputeDecidedError):
        await scene.decide(dispute, REJECTED)
    rejected = await scene.file(MINOR, counterparty="carol")
    await scene.decide(rejected, REJECTED)
    with pytest.raises(DisputeDecidedError):
        await scene.decide(rejected, UPHELD)
    assert await scene.balances() == [2_000, 0, 2_000]
    with pytest.raises(UnknownDisputeError):
        await scene.engine.dispute_decisions.decide(999, UPHELD, reason="x", decided_by="root")


async def test_upheld_against_rejected_at_once_is_one_of_them(scene: Scene) -> None:
    dispute = await scene.file()
    outcomes = await asyncio.gather(
        *(scene.decide(dispute, outcome) for outcome in (UPHELD, REJECTED)), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, DisputeDecidedError)]
    assert len(refused) == 1
    (decided,) = [outcome for outcome in outcomes if isinstance(outcome, Dispute)]
    assert (await scene.corrections() == 1) is (decided.state is UPHELD)


async def test_the_same_again_is_the_same_and_another_is_refused(scene: Scene) -> None:
    filed = await asyncio.gather(*(scene.file() for _ in range(5)))
    assert {dispute.dispute_id for dispute in filed} == {filed[0].dispute_id}
    assert len(await scene.engine.freezes.of("bob")) == 1
    with pytest.raises(DisputeOpenError):
        await scene.file(evidence=("something else",))
    with pytest.raises(DisputeOpenError):
        await scene.file(MINOR)
    await scene.decide(filed[0], UPHELD)
    with pytest.raises(DisputeOpenError, match="already been upheld"):
        await scene.file()


async def test_only_who_paid_complains_of_a_payment(scene: Scene) -> None:
    """Not who has a share, neither of the sender nor of another one with a share: a sender is never frozen by it."""
    (second, first) = (await scene.engine.views.claims(scene.number, after=None, limit=9)).claims
    backwards: list[tuple[DisputeKind, str, str | None]] = [
        *((kind, "carol", other) for kind in (FRAUD, MINOR) for other in ("alice", "bob", "mallory")),
        (FAULT, "carol", None),
    ]
    for kind, complainant, other in backwards:
        for at_ms in (first.claimed_at_ms, second.claimed_at_ms, scene.at_ms):
            with pytest.raises(NotSenderError):
                await scene.file(kind, complainant, counterparty=other, at_ms=at_ms)
    assert [await scene.is_frozen(user) for user in ("alice", "bob")] == [False, False]
    assert await scene.engine.pool.fetchval("SELECT count(*) FROM disputes") == 0


async def test_nobody_pays_for_a_share_twice(scene: Scene) -> None:
    await scene.decide(await scene.file(MINOR), UPHELD)
    with pytest.raises(DisputeOpenError, match="already been upheld"):
        await scene.file(FRAUD)
    # And if it were filed: the ledger's own rule.
    columns = "packet_id, complainant, amount_fen, transaction_at_ms, evidence, filed_at_ms, earliest_at_ms"
    with pytest.raises(asyncpg.UniqueViolationError, match="upheld_once"):
        await scene.engine.pool.execute(
            f"INSERT INTO disputes (kind, counterparty, state, decided_at_ms, decided_by, deadline_at_ms, {columns}) "
            f"SELECT 'fraud', 'bob', 'upheld', 1, 'root', deadline_at_ms, {columns} FROM disputes"
        )
    assert await scene.balances() == [2_000, 0, 2_000]


async def test_filing_takes_no_turn_of_those_who_send_to_a_label(scene: Scene) -> None:
    """Sending takes a label's turn behind a wallet's lock, filing the complainant's turn before one: never the same."""
    async with scene.engine.pool.acquire() as connection, connection.transaction():
        await connection.execute(RULES["take_turns"], "alice")  # a label of her name
        async with asyncio.timeout(10):
            assert await scene.file()


@pytest.mark.long
async def test_two_a_year(scene: Scene, settings: Settings) -> None:
    await whole_day()
    packets = [await claimed_packet(scene.engine, "bob") for _ in range(6)]
    await settled(scene.engine, *(number for number, _ in packets))
    results = await asyncio.gather(
        *(scene.file(MINOR, number=number, at_ms=at_ms) for number, at_ms in packets), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, TooManyDisputesError)]
    assert (len(results) - len(refused), len(refused)) == (settings.disputes_a_year_max, 4)
    # Of last year they do not count.
    await scene.engine.pool.execute("UPDATE disputes SET filed_at_ms = filed_at_ms - 366 * 86400000::bigint")
    assert await scene.file(MINOR)
    # And system faults never do.
    assert await scene.file(FAULT, counterparty=None)
    assert await scene.file(MINOR, counterparty="carol")
    with pytest.raises(TooManyDisputesError) as caught:
        await scene.file(MINOR, number=packets[5][0], at_ms=packets[5][1])
    assert caught.value.until_ms == begin_ms(date(today().year + 1, 1, 1))


async def test_only_above_what_is_handled_by_hand(scene: Scene, settings: Settings) -> None:
    for share_fen in (settings.dispute_above_fen, settings.dispute_above_fen + 1):
        number, at_ms = await claimed_packet(scene.engine, "bob", share_fen=share_fen)
        await settled(scene.engine, number)
        if share_fen == settings.dispute_above_fen:
            with pytest.raises(BelowManualHandlingError):
                await scene.file(number=number, at_ms=at_ms)
            assert not await scene.is_frozen("bob")
        else:
            assert (await scene.file(number=number, at_ms=at_ms)).amount_fen == share_fen


LACKING: list[tuple[DisputeKind, str, dict[str, object], list[str]]] = [
    (FRAUD, "alice", {"at_ms": 1_000}, ["at_ms"]),
    (FRAUD, "alice", {"counterparty": "mallory"}, ["counterparty"]),
    (FRAUD, "alice", {"counterparty": "alice"}, ["counterparty"]),
    (FRAUD, "alice", {"counterparty": None}, ["counterparty"]),
    (MINOR, "alice", {"at_ms": 0, "counterparty": "mallory"}, ["at_ms", "counterparty"]),
    (FRAUD, "alice", {"evidence": ("fine", " ", "a\0b")}, ["evidence[1]", "evidence[2]"]),
    (FAULT, "alice", {}, ["counterparty"]),
]


async def test_what_it_needs_is_named(scene: Scene) -> None:
    for kind, complainant, change, fields in LACKING:
        with pytest.raises(InvalidFieldsError) as refused:
            await scene.file(kind, complainant, **change)
        assert [problem.field for problem in refused.value.problems] == fields
    assert not await scene.is_frozen("bob")


async def test_the_time_is_exact_to_the_second(scene: Scene) -> None:
    second = scene.at_ms // 1_000 * 1_000
    for at_ms in (second - 1, second + 1_000):
        with pytest.raises(InvalidFieldsError):
            await scene.file(at_ms=at_ms)
    assert await scene.file(at_ms=second)


async def test_only_parties_file_and_only_what_the_ledger_has(settings: Settings) -> None:
    async with Engine.open(settings) as engine:
        number, at_ms = await claimed_packet(engine, "bob")
        scene = Scene(engine, number, at_ms)
        with pytest.raises(UnknownTransactionError):
            await scene.file(complainant="mallory")
        with pytest.raises(UnknownTransactionError):
            await scene.file(number=new_packet_number(0))
        with pytest.raises(NotSenderError):
            await scene.file(complainant="bob", counterparty="alice")  # whose share is in Redis alone
        with pytest.raises(InvalidFieldsError, match="counterparty"):
            await scene.file()  # of bob's share nothing is in the ledger yet


async def test_deadlines_are_in_working_days(settings: Settings) -> None:
    friday_ms = begin_ms(date(2026, 11, 20)) + 18 * 3_600_000
    assert deadlines(FRAUD, friday_ms, settings) == (begin_ms(date(2026, 11, 25)), begin_ms(date(2026, 12, 2)))
    assert deadlines(MINOR, friday_ms, settings) == (begin_ms(date(2026, 11, 27)), begin_ms(date(2026, 12, 12)))
    assert deadlines(FAULT, friday_ms, settings) == (friday_ms, friday_ms + 3_600_000)
    assert day_of(deadlines(FRAUD, friday_ms, settings)[1] - 1) == date(2026, 12, 1)


async def test_what_is_overdue_is_told_once(scene: Scene, settings: Settings) -> None:
    disputes = [await scene.file(), await scene.file(MINOR, counterparty="carol")]
    assert await tell_overdue(scene.engine.pool, settings) == 0
    await scene.engine.pool.execute("UPDATE disputes SET deadline_at_ms = filed_at_ms WHERE kind = 'fraud'")
    assert await tell_overdue(scene.engine.pool, settings) == 1
    assert await tell_overdue(scene.engine.pool, settings) == 0
    (alert,) = (await scene.engine.alerts.page(after=None, limit=9)).alerts
    assert (alert.kind, alert.user_id) == ("dispute_overdue", "alice")
    assert alert.details["dispute_id"] == disputes[0].dispute_id
    # One that was decided is not overdue any more.
    await scene.decide(disputes[1], REJECTED)
    await scene.engine.pool.execute("UPDATE disputes SET deadline_at_ms = filed_at_ms")
    assert await tell_overdue(scene.engine.pool, settings) == 0


async def test_an_upheld_system_fault_returns_what_is_unclaimed(scene: Scene) -> None:
    engine = scene.engine
    sent = await send(engine, total_fen=500, count=5, split=SplitKind.EQUAL)
    await engine.claims.claim(sent.packet_id, "dave")
    await caught_up(engine)
    at_ms = (await engine.views.packet(sent.packet_id)).created_at_ms
    dispute = await scene.file(FAULT, number=sent.packet_id, at_ms=at_ms, counterparty=None)
    decided = await scene.decide(dispute, UPHELD)
    assert (decided.state, decided.transfer_id) == (UPHELD, None)
    await settled(engine, sent.packet_id)
    assert (await engine.claims.claim(sent.packet_id, "erin")).outcome is Outcome.EXPIRED
    assert (await scene.balance("alice"), await scene.balance("dave")) == (400, 100)
    assert (await scene.decide(dispute, UPHELD)).returned_fen == 400


async def test_what_redis_lost_of_a_return_is_done_again(settings: Settings) -> None:
    """Nothing is called returned before the ledger has the end: until then Redis may lose it."""
    settings = changed(settings, lanes=1)
    async with Engine.open(settings) as engine:
        number = (await send(engine, total_fen=500, count=5)).packet_id
        async with persisting(settings):
            await caught_up(engine)
        scene = Scene(engine, number, (await engine.views.packet(number)).created_at_ms)
        dispute = await scene.file(FAULT, counterparty=None)
        assert (await scene.decide(dispute, UPHELD)).returned_fen is None
        await give_back(engine.pool, engine.store)  # it has ended in Redis
        assert (await engine.disputes.get(1, "alice", sees_all=False)).returned_fen is None
        await engine.redis.flushall()
        await mended(engine)
        await wait_until(lambda: epochs_known(engine), what="learning the new epoch")
        await give_back(engine.pool, engine.store)
        async with persisting(settings):
            await settled(engine, number)
        await give_back(engine.pool, engine.store)
        assert (await engine.disputes.get(1, "alice", sees_all=False)).returned_fen == 500
        assert (await engine.claims.claim(number, "bob")).outcome is Outcome.EXPIRED
        assert await scene.balance("alice") == 500


async def test_those_that_cannot_end_do_not_keep_others_from_it(settings: Settings) -> None:
    async with Engine.open(settings) as engine, persisting(settings):
        stuck = await pay_only(engine, total_fen=500, count=5)
        at_ms = (await engine.views.packet(stuck)).created_at_ms
        scene = Scene(engine, stuck, at_ms)
        await scene.decide(await scene.file(FAULT, counterparty=None), UPHELD)
        number = (await send(engine, total_fen=500, count=5)).packet_id
        await caught_up(engine)
        columns = "kind, complainant, amount_fen, transaction_at_ms, evidence, filed_at_ms, earliest_at_ms"
        columns += ", deadline_at_ms, state, decided_at_ms, decided_by"
        for packet_id, copies in ((stuck, 120), (number, 1)):
            await engine.pool.execute(
                f"INSERT INTO disputes (packet_id, {columns}) SELECT $1, {columns} "
                "FROM disputes, generate_series(1, $2) WHERE dispute_id = 1",
                *(int(packet_id), copies),
            )
        after = await give_back(engine.pool, engine.store)
        assert after > 0
        assert await give_back(engine.pool, engine.store, after=after) == 0
        await settled(engine, number)
        assert (await engine.views.packet(number)).remaining_fen == 500


async def test_what_is_looked_for_every_second_has_an_index(engine: Engine) -> None:
    for name, values, index in (
        ("to_return", "(NULL, 0, 100)", "disputes_to_return"),
        ("is_decided", "(1, 'bob')", "upheld_once"),
    ):
        async with engine.pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL plan_cache_mode = force_generic_plan")
            await connection.execute(f"PREPARE {name} AS {DISPUTES[name]}")
            plan = await connection.fetch(f"EXPLAIN EXECUTE {name} {values}")
            await connection.execute(f"DEALLOCATE {name}")
        assert any(index in row[0] for row in plan), plan


async def test_a_rejected_system_fault_leaves_the_packet_open(scene: Scene) -> None:
    sent = await send(scene.engine, total_fen=500, count=5)
    at_ms = (await scene.engine.views.packet(sent.packet_id)).created_at_ms
    dispute = await scene.file(FAULT, number=sent.packet_id, at_ms=at_ms, counterparty=None)
    assert (await scene.decide(dispute, REJECTED)).returned_fen is None
    assert (await scene.engine.views.packet(sent.packet_id)).state is PacketState.OPEN


async def test_what_ended_by_itself_is_noted_as_the_ledger_has_it(scene: Scene) -> None:
    dispute = await scene.file(FAULT, counterparty=None)
    assert (await scene.decide(dispute, UPHELD)).returned_fen == 0


async def test_what_could_not_end_at_once_ends_later(settings: Settings) -> None:
    """The packet is paid for and not open, so there is nothing in Redis to end yet."""
    async with Engine.open(settings) as engine:
        number = await pay_only(engine, total_fen=500, count=5)
        at_ms = (await engine.views.packet(number)).created_at_ms
        scene = Scene(engine, number, at_ms)
        dispute = await scene.file(FAULT, counterparty=None)
        assert (await scene.decide(dispute, UPHELD)).returned_fen is None
        await give_back(engine.pool, engine.store)
        assert (await engine.disputes.get(1, "alice", sees_all=False)).returned_fen is None
        stop = asyncio.Event()
        following = asyncio.create_task(follow_disputes(engine.pool, engine.store, settings, stop))
        try:
            async with persisting(settings), sweeping(settings):

                async def is_returned() -> bool:
                    return (await engine.disputes.get(1, "alice", sees_all=False)).returned_fen == 500

                await wait_until(is_returned, timeout_s=20, what="the return of all of it")
                await settled(engine, number)
        finally:
            stop.set()
            await following
        assert (await engine.wallets.get("alice")).balance_fen == 500
