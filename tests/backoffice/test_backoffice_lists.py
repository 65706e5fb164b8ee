"""What operators list over all users: every row once, in order, by each filter, page by page."""

from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import uuid4

import pytest

from engine.disputes.lists import DisputeFilter, DisputeLists, Effect
from engine.engine import Engine
from engine.errors import InvalidFieldsError, UnknownPacketError
from engine.lanes.replies import Closed
from engine.packets.lists import PacketFilter, PacketLists
from engine.packets.refunds import Refunds, close_now
from engine.paging import Page
from engine.records import FreezeScope, PacketState, SplitKind
from engine.risk.alert_desk import AlertDesk, AlertFilter
from engine.risk.freeze_lists import FreezeFilter, FreezeLists, FrozenBy, UnknownFreezeError, lift_one
from engine.settings import Settings
from engine.wallets.payouts import provider_of
from engine.wallets.users import Users
from engine.wallets.withdrawal_lists import WithdrawalFilter, WithdrawalLists, ask_again
from engine.wallets.withdrawals import WithdrawalState
from tests.support.dispute_scene import FAULT, REJECTED, UPHELD, open_scene, with_small_disputes
from tests.support.scenes import caught_up, changed, fund, let_time_run_out, persisting, send, settled

Row = TypeVar("Row")


async def all_of(page: Callable[[str | None], Awaitable[Page[Row]]]) -> list[Row]:
    """Every row of a list, page by page."""
    rows: list[Row] = []
    after: str | None = None
    for _ in range(100):
        found = await page(after)
        rows += found.rows
        after = found.next
        if after is None:
            return rows
    raise AssertionError("the list never ends")


async def test_packets_are_listed_by_each_filter(engine: Engine, settings: Settings) -> None:
    lists = PacketLists(engine.pool)
    async with persisting(settings):
        sent = {}
        for number, (sender, label, total_fen) in enumerate(
            [("alice", "spring", 100), ("alice", None, 200), ("bob", "spring", 300), ("carol", "winter", 400)]
        ):
            packet = await send(engine, sender, total_fen=total_fen, count=1, split=SplitKind.EQUAL, label=label)
            sent[number] = packet.packet_id
        await engine.claims.claim(sent[0], "dave")
        await let_time_run_out(engine, sent[3])
        await close_now(engine.store, sent[3])
        await settled(engine, sent[0], sent[3])
        await caught_up(engine)

    async def listed(**values: object) -> list[str]:
        wanted = PacketFilter(**values)  # type: ignore[arg-type]
        rows = await all_of(lambda after: lists.page(wanted, after=after, limit=1))
        assert len({row.packet_id for row in rows}) == len(rows)
        assert [row.created_at_ms for row in rows] == sorted((row.created_at_ms for row in rows), reverse=True)
        return sorted(row.packet_id for row in rows)

    def some(*numbers: int) -> list[str]:
        return sorted(sent[number] for number in numbers)

    assert await listed() == some(0, 1, 2, 3)
    assert await listed(states=(PacketState.OPEN,)) == some(1, 2)
    assert await listed(states=(PacketState.EXHAUSTED, PacketState.EXPIRED)) == some(0, 3)
    assert await listed(sender="alice") == some(0, 1)
    assert await listed(sender="alice", label="spring") == some(0)
    assert await listed(sender="alice", states=(PacketState.OPEN,)) == some(1)
    assert await listed(label="spring") == some(0, 2)
    assert await listed(label="spring", most_fen=100) == some(0)
    assert await listed(least_fen=200, most_fen=300) == some(1, 2)
    row = (await lists.page(PacketFilter(), after=None, limit=1)).rows[0]
    assert await listed(before_ms=row.created_at_ms + 1) == some(0, 1, 2, 3)
    assert row.packet_id not in await listed(before_ms=row.created_at_ms)
    assert row.packet_id in await listed(from_ms=row.created_at_ms)
    assert await listed(sender="nobody") == []
    with pytest.raises(InvalidFieldsError):
        await lists.page(PacketFilter(), after="1-2-3", limit=1)


async def test_labels_have_the_sums_of_their_packets(engine: Engine, settings: Settings) -> None:
    lists = PacketLists(engine.pool)
    async with persisting(settings):
        first = await send(engine, "alice", total_fen=100, count=2, split=SplitKind.EQUAL, label="a")
        await send(engine, "alice", total_fen=70, count=1, label="a")
        await send(engine, "alice", total_fen=30, count=1, label="ab")
        await send(engine, "alice", total_fen=50, count=1, label="b")
        for user in ("bob", "carol"):
            await engine.claims.claim(first.packet_id, user)
        await settled(engine, first.packet_id)
    await engine.profiles.put_label("a", 1_000, changed_by="root")

    async def labels(prefix: str) -> list[str]:
        rows = await all_of(lambda after: lists.labels(prefix=prefix, from_ms=0, after=after, limit=1))
        return [row.label for row in rows]

    assert await labels("") == ["a", "ab", "b"]
    assert await labels("a") == ["a", "ab"]
    assert await labels("ab") == ["ab"]
    assert await labels("c") == []
    (row,) = (await lists.labels(prefix="a", from_ms=0, after=None, limit=1)).rows
    assert (row.packets, row.shares, row.sent_fen, row.claimed_fen, row.exhausted) == (2, 3, 170, 100, 1)
    assert (row.day_sent_fen_max, row.day_sent_fen, row.is_whole) == (1_000, 170, True)
    assert row.sold_out_ms is not None
    assert row.sold_out_ms >= 0
    assert (await lists.labels(prefix="a", from_ms=2**60, after=None, limit=1)).rows[0].packets == 0


async def test_users_are_found_by_how_their_id_begins(engine: Engine) -> None:
    for user in ("ali", "alice", "alicia", "bob", "Alice", "ali:1"):
        await fund(engine, user, 5)
    await engine.freezes.freeze("alicia", reason="seen", frozen_by="root")
    users = Users(engine.pool)

    async def found(prefix: str) -> list[str]:
        return [row.user_id for row in await all_of(lambda after: users.page(prefix, after=after, limit=2))]

    assert await found("ali") == ["ali", "ali:1", "alice", "alicia"]
    assert await found("alic") == ["alice", "alicia"]
    assert await found("") == ["Alice", "ali", "ali:1", "alice", "alicia", "bob"]
    assert await found("z") == []
    assert await found("_") == []
    assert [row.frozen for row in (await users.page("alici", after=None, limit=2)).rows] == [True]
    assert (await users.exists("alice"), await users.exists("alic")) == (True, False)


async def test_freezes_in_force_are_listed_and_lifted_one_by_one(engine: Engine) -> None:
    await engine.freezes.freeze("alice", reason="seen", frozen_by="root")
    await engine.freezes.freeze("alice", reason="a packet of 9 fen", frozen_by="rule:large_movement")
    await engine.freezes.freeze("bob", reason="seen", frozen_by="root", scope=FreezeScope.SENDING)
    lists = FreezeLists(engine.pool)

    async def listed(**values: object) -> list[tuple[str, str]]:
        wanted = FreezeFilter(**values)  # type: ignore[arg-type]
        rows = await all_of(lambda after: lists.page(wanted, after=after, limit=1))
        return [(row.user_id, row.by.value) for row in rows]

    assert await listed() == [("bob", "operator"), ("alice", "rule"), ("alice", "operator")]
    assert await listed(by=FrozenBy.RULE) == [("alice", "rule")]
    assert await listed(scope=FreezeScope.SENDING) == [("bob", "operator")]
    assert await listed(user_id="bob", by=FrozenBy.RULE) == []
    assert await lists.count(2) == 2
    rule = next(row for row in (await lists.page(FreezeFilter(), after=None, limit=9)).rows if row.by is FrozenBy.RULE)
    for _ in range(2):
        assert await lift_one(engine.pool, engine.freezes, rule.freeze_id, reason="known", lifted_by="eve")
    assert await listed() == [("bob", "operator"), ("alice", "operator")]
    assert await engine.freezes.in_force("alice") == [FreezeScope.ACCOUNT]
    user_id, freeze = await lists.one(rule.freeze_id)
    assert (user_id, freeze.lifted_by, freeze.lifted_reason) == ("alice", "eve", "known")
    with pytest.raises(UnknownFreezeError):
        await lists.one(999)


async def test_withdrawals_of_all_users_show_only_the_end_of_a_bank_account(engine: Engine, settings: Settings) -> None:
    numbers = []
    for user, account in (("alice", "6222020200112233"), ("bob", "6222020200110000")):
        await fund(engine, user, 10_000)
        await engine.payment_passwords.put(user, "135790", None)
        asked = await engine.withdrawals.withdraw(
            user, 1_000, account, "135790", idempotency_key=uuid4().hex, request_hash=b"w"
        )
        numbers.append(int(asked.withdrawal.withdrawal_id))
    lists, provider = WithdrawalLists(engine.pool), provider_of(engine.pool, settings)

    async def listed(**values: object) -> list[tuple[str, str]]:
        wanted = WithdrawalFilter(**values)  # type: ignore[arg-type]
        rows = await all_of(lambda after: lists.page(wanted, after=after, limit=1))
        return [(row.user_id, row.bank_account_end) for row in rows]

    assert await listed() == [("bob", "0000"), ("alice", "2233")]
    assert await listed(user_id="alice") == [("alice", "2233")]
    assert await listed(state=WithdrawalState.SETTLED) == []
    assert (await lists.processing(10)).waiting == 2
    assert await ask_again(engine.pool, provider, numbers[0])  # orders it
    await engine.pool.execute("UPDATE sandbox_payouts SET ends_at_ms = 0")
    assert await ask_again(engine.pool, provider, numbers[0])  # books its end
    assert not await ask_again(engine.pool, provider, numbers[0])
    assert await listed(state=WithdrawalState.SETTLED) == [("alice", "2233")]
    assert (await lists.processing(10)).waiting == 1


async def test_alerts_are_filtered_acknowledged_once_and_delivered_again(engine: Engine, settings: Settings) -> None:
    large = changed(settings, alert_large_fen=1)
    async with Engine.open(large) as watching:
        for sender in ("alice", "alice", "bob"):
            await send(watching, sender, total_fen=10, count=1)
    desk = AlertDesk(engine.pool)

    async def listed(**values: object) -> list[str]:
        wanted = AlertFilter(**values)  # type: ignore[arg-type]
        rows = await all_of(lambda after: desk.page(wanted, after=after, limit=1))
        assert all(row.kind == "large_movement" and row.details["amount_fen"] == 10 for row in rows)
        return [row.alert_id for row in rows]

    third, second, first = await listed()
    assert await listed(user_id="bob") == [third]
    assert await listed(kind="burst") == []
    assert await listed(is_waiting=True) == [third, second, first]
    assert await desk.acknowledge([int(first), int(third)], by="root", note="known") == [first, third]
    assert await desk.acknowledge([int(first)], by="eve") == []
    assert await listed(is_waiting=True) == [second]
    assert await listed(is_waiting=False) == [third, first]
    assert await desk.waiting(10) == 1
    found = (await desk.page(AlertFilter(user_id="bob"), after=None, limit=1)).rows[0]
    assert (found.acknowledged_by, found.acknowledged_note) == ("root", "known")
    with pytest.raises(InvalidFieldsError, match="HONGBAO_WEBHOOK_URL"):
        await desk.deliver_again([int(first)], settings)
    secret = "whsec_" + "a" * 44
    hooked = changed(settings, webhook_url="http://127.0.0.1:9/", webhook_secret=secret)
    assert await desk.deliver_again([int(first)], hooked) == [first]
    due = await engine.pool.fetchval("SELECT count(*) FROM alerts WHERE next_try_at_ms IS NOT NULL")
    assert due == 1


async def test_refunds_that_wait_are_seen_in_redis_and_in_the_ledger(engine: Engine, settings: Settings) -> None:
    refunds = Refunds(engine.pool, engine.store)
    sent = await send(engine, total_fen=30, count=3, split=SplitKind.EQUAL)
    assert (await close_now(engine.store, sent.packet_id)).reply is Closed.NOT_DUE
    await let_time_run_out(engine, sent.packet_id)
    due = {line.lane: line for line in await refunds.due(engine.lanes)}
    (late,) = [line for line in due.values() if line.count]
    assert late.packets == (sent.packet_id,)
    assert late.oldest_ms == 1
    assert [(await close_now(engine.store, sent.packet_id)).reply for _ in range(2)] == [Closed.CLOSED, Closed.ENDED]
    assert not any(line.count for line in await refunds.due(engine.lanes))
    async with persisting(settings):
        await settled(engine, sent.packet_id)
    assert (await refunds.counts()).waiting == 0
    await engine.pool.execute("UPDATE packets SET settled_at_ms = NULL WHERE packet_id = $1", int(sent.packet_id))
    (row,) = (await refunds.page(after=None, limit=5)).rows
    assert (row.packet_id, row.custody_fen, row.quarantined) == (sent.packet_id, 0, 0)
    assert (await refunds.counts()).waiting == 1
    for odd in ("1", "9" * 19, "1099900000000000000"):
        with pytest.raises(UnknownPacketError):
            await close_now(engine.store, odd)


async def test_disputes_come_by_deadline_with_the_effect_of_upholding(settings: Settings) -> None:
    async with open_scene(with_small_disputes(settings)) as scene:
        fraud = await scene.file()
        minor = await scene.file(kind=fraud.kind.MINOR, counterparty="carol")
        fault = await scene.file(kind=FAULT, counterparty=None)
        lists = DisputeLists(scene.engine.pool)

        async def listed(**values: object) -> list[str]:
            wanted = DisputeFilter(**values)  # type: ignore[arg-type]
            return [row.dispute_id for row in await all_of(lambda after: lists.page(wanted, after=after, limit=1))]

        by_deadline = sorted((fraud, minor, fault), key=lambda one: (one.deadline_at_ms, int(one.dispute_id)))
        assert await listed() == [one.dispute_id for one in by_deadline]
        assert await listed(user_id="bob") == [fraud.dispute_id]
        assert await listed(kind=FAULT) == [fault.dispute_id]
        assert await listed(state=None) == []
        assert await listed(due_before_ms=1) == []
        counts = await lists.counts(10)
        assert (counts.open, counts.overdue) == (3, 0)
        assert [one.dispute_id for one in await lists.of_user("carol")] == [minor.dispute_id]
        assert len(await lists.of_user("alice")) == len(await lists.of_packet(scene.number)) == 3

        async def effect(number: str) -> tuple[Effect, int | None, bool]:
            preview = (await lists.one(int(number))).preview
            assert preview is not None
            return preview.effect, preview.payer_fen, preview.lifts_freeze

        assert await effect(fraud.dispute_id) == (Effect.TRANSFER, 2_000, True)
        await scene.spend("carol", 1)
        assert await effect(minor.dispute_id) == (Effect.DEBT, 1_999, False)
        assert (await effect(fault.dispute_id))[0] is Effect.NOTHING_LEFT
        await scene.decide(fraud, UPHELD)
        await scene.decide(minor, REJECTED)
        assert await listed(state=None) == [minor.dispute_id, fraud.dispute_id]
        assert await listed(state=UPHELD) == [fraud.dispute_id]
        decided = await lists.one(int(fraud.dispute_id))
        assert (decided.decided_by, decided.preview) == ("root", None)
        assert (await scene.balance("bob"), await scene.corrections()) == (0, 1)
